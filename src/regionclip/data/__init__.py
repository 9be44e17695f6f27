"""Images from files to network input, and the data sets they come from."""
