"""What the tests of the metrics are made of."""
