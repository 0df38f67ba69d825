"""A run on many machines: victims and cells as tasks of a Ray cluster.

`run` is what pytest is told. `dispatch` is the driver's loop, `order` says which task a free slot
starts, `sharing` which kind of nodes measures what, `fleet` and `nodes` which nodes there are,
`launch`, `stock` and `parcels` what is handed to them, `tasks` is what a node runs, `ends` and
`tally` are what comes of it. `submission` is about jobs without a terminal, `simulation` about
clusters that nobody has. Ray is imported only when one of them is asked.
"""
