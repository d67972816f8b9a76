"""A trained network for others: as a graph without our code, and as a folder for model hubs."""
