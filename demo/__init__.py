"""The main job on one machine: sandbox, embedded warehouse, two runs of an example DAG, a summary, a proof."""
