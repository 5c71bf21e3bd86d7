"""The service's back end, without HTTP: jobs, scenes, maps, keys, on disk and in a database."""
