"""Its presence puts this folder on the path, so that the folders below find `simulated_panel`."""
