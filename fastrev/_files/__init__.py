"""Files of plain data and arrays, whole or not there: for whatever the library keeps on disk."""
