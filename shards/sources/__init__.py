"""Where images come from: directories, patterns, lists, archives, tables."""
