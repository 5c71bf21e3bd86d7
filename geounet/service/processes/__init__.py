"""The service's processes: the worker, and the fenced children that open what strangers sent."""
