"""`make bench`: the project beside what it is made of and beside what one would write instead."""
