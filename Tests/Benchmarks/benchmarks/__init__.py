"""Compares iotstream with its peers in the same run."""
