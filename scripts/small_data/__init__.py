"""What `scripts/benchmark_small_data.py` is made of.

`sets` draws the examples and writes them to manifests; `ours`, `peers_sklearn` and `peers_torch` are the workers, each
a process of its own; `plans` says which jobs there are; `tables` turns their results into a page. `manifests` and
`measuring` are what all workers share, so that every method reads the same lists and is measured by the same code;
they, and `peers_torch`, need neither JAX nor flaxtl.
"""
