"""Networks, methods and checks of the core's own tests. Only torch and camkit_core."""
