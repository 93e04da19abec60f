"""What the acceptance and interoperability tests stand on: the real programs, and small raw clients for what no library would send."""
