"""How fast the engine is, beside the machine's own matmul and the hook method."""
