"""What the chapters import. Importing the package itself does nothing."""
