"""SQL within bounds: the fence, limits of time and memory, a worker process."""
