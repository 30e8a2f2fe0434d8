"""One HTML page from run directories: read, drawn and put together."""
