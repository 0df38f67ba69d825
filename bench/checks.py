"""The conformance suite for plugins: call it from your own tests.

    from bench.checks import check_attack, check_dataset, check_defense, check_model

    def test_my_attack():
        check_attack("my_attack")

Each takes a registered name or what is registered (an attack or defense also built), works on real
digits without a network, and raises PluginError (a data set's may be a DataError), one line that
names the plugin and what it breaks.
"""

from bench.harness.checks.attacks import check_attack
from bench.harness.checks.datasets import check_dataset
from bench.harness.checks.defenses import check_defense
from bench.harness.checks.models import check_model

__all__ = ["check_attack", "check_dataset", "check_defense", "check_model"]
