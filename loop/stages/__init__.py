"""The steps of a round, one file each. Knows neither `views` nor the command line."""
