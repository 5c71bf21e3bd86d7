"""What maps say in numbers: areas by zone, estimates with intervals, change between two dates."""
