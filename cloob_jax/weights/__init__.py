"""Public weights in other formats, read and written without their frameworks."""
