"""Foundation of all packages: settings, store, errors, gRPC server, manifests, telemetry."""
