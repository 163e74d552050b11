"""One run on several devices of a machine: a process each, and a driver that hands out units and loads what is finished."""
