"""What a person does with a ledger: look, check, clean, adopt, erase, forget (``fbca ledger``).

Beside the operators, not above them: a tool is another writer, and keeps to the same rules. It takes the lease of an
audience before it reads, writes down before it sends, and leaves entries that every task understands.
"""
