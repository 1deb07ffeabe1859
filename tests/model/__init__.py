"""A model of every history that an audience may have, over the real operators, ledger, plans and client.

``python -m tests.model`` searches it; ``docs/model.md`` tells what is real in it, what is not, and what was found.
"""
