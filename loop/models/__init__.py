"""From the name of a model in a recipe to a checkpoint's folder on this machine.

`sources` is the table: embedded small models, a model from a package, local folders, GGUF files,
the model hub. Imports nothing heavy; a GGUF file is converted in a child process (`convert`).
"""
