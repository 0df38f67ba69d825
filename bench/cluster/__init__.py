"""A run on many machines: victims and cells as tasks of a Ray cluster.

`order` says which task a free slot starts, `dispatch` is the driver's loop, `tasks` is what a node
runs, `nodes` is what is known of nodes, `parcels` are victims and modules as bytes, `run` is what
pytest is told. Ray is imported by `nodes` and `dispatch` alone, and only when they are asked.
"""
