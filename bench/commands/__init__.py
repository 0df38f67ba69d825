"""The commands of ``python -m bench``, one file each: its arguments, and what it does and prints.

May import everything of `bench`, but while it parses arguments nothing that loads PyTorch.
"""
