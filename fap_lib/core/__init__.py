"""Settings, paths, files, errors and progress: what every other room stands on."""
