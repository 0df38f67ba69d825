"""Is this model backdoored? A stranger's network before every detector that applies to it.

May import `fixtures`, `attacks`, `defenses` and of `bench` what lies below `bench.harness`.
``bench.audit`` and ``bench.repair``, which the command line calls too, are in `audit`.
"""
