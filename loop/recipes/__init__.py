"""From a recipe as people write it to `config.Recipe`, with what it leaves to be chosen."""
