"""The recorder: `droptape-record`, from the loaded programs to a sealed recording."""
