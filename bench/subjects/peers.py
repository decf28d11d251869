"""Other vendors' SDKs, each fed 200 boolean flags at 25 % without a network.

The statement is what an application writes for each request, its user or context object included;
events are off where that can be said, so nobody is measured with work that we do not do.
"""

from __future__ import annotations

import json
import logging
import tempfile
from importlib.metadata import version
from typing import Any

logging.disable(logging.WARNING)

FLAGS = [f"flag-{n}" for n in range(200)]
KEY = "flag-100"
NOWHERE = "http://127.0.0.1:9"
PERCENT = 25


def case(package: str, statement: str, exposed: str, **names: Any) -> dict[str, Any]:
    """Return a case of a vendor's distribution."""
    told = {"statement": statement, "names": names, "exposed": exposed}
    return {**told, "version": f"{package} {version(package)}"}


def eppo() -> dict[str, Any]:
    """Eppo: a configuration that is handed over, no polling, a logger that does nothing."""
    import eppo_client
    from eppo_client import AssignmentLogger, ClientConfig, Configuration

    def shard(key: str, low: int, high: int) -> dict[str, Any]:
        return {"salt": f"salt-{key}", "ranges": [{"start": low, "end": high}]}

    def flag(key: str) -> dict[str, Any]:
        edge = PERCENT * 100
        splits = [
            {"variationKey": "on", "shards": [shard(key, 0, edge)]},
            {"variationKey": "off", "shards": [shard(key, edge, 10_000)]},
        ]
        return {
            "key": key,
            "enabled": True,
            "variationType": "BOOLEAN",
            "variations": {
                "on": {"key": "on", "value": True},
                "off": {"key": "off", "value": False},
            },
            "allocations": [{"key": "all", "rules": [], "splits": splits, "doLog": True}],
            "totalShards": 10_000,
        }

    class Silent(AssignmentLogger):  # type: ignore[misc, unused-ignore]  # of a package not here
        def log_assignment(self, assignment: Any) -> None:
            """Say nothing."""

    told = {
        "createdAt": "2026-01-01T00:00:00.000Z",
        "format": "SERVER",
        "environment": {"name": "bench"},
        "flags": {key: flag(key) for key in FLAGS},
    }
    client = eppo_client.init(
        ClientConfig(
            api_key="none",
            base_url=NOWHERE,
            assignment_logger=Silent(),
            poll_interval_seconds=None,
            initial_configuration=Configuration(flags_configuration=json.dumps(told).encode()),
        )
    )
    statement = f"ask('{KEY}', i, nothing, False)"
    return case(
        *("eppo-server-sdk", statement, statement),
        ask=client.get_boolean_assignment,
        nothing={},
    )


def statsig() -> dict[str, Any]:
    """Statsig's core: a data store of its own, network, logging and exposures off."""
    from statsig_python_core import (
        DataStore,
        FeatureGateEvaluationOptions,
        Statsig,
        StatsigOptions,
        StatsigUser,
    )
    from statsig_python_core.data_store import DataStoreResponse

    when = 1_700_000_000_000
    common = {"isDeviceBased": False, "idType": "userID"}
    everybody = {"type": "public", "targetValue": None, "operator": None, "field": None}

    def gate(key: str) -> dict[str, Any]:
        rule = {
            **common,
            "name": "rule",
            "groupName": "rule",
            "passPercentage": PERCENT,
            "conditions": ["everybody"],
            "returnValue": True,
            "id": "rule",
            "salt": f"rule-salt-{key}",
        }
        return {
            "type": "feature_gate",
            "salt": f"salt-{key}",
            "defaultValue": False,
            "enabled": True,
            "idType": "userID",
            "entity": "feature_gate",
            "version": 1,
            "rules": [rule],
        }

    empty = "dynamic_configs layer_configs layers experiment_to_layer id_lists diagnostics"
    empty += " sdk_configs sdk_flags param_stores"
    empty += " hashed_sdk_keys_to_app_ids hashed_sdk_keys_to_entities"
    specs = {
        **{name: {} for name in empty.split()},
        "has_updates": True,
        "time": when,
        "company_id": "bench",
        "app_id": "bench",
        "response_format": "dcs-v2",
        "feature_gates": {key: gate(key) for key in FLAGS},
        "condition_map": {"everybody": {**everybody, "additionalValues": {}, **common}},
    }
    body = json.dumps(specs)

    class Store(DataStore):  # type: ignore[misc, unused-ignore]  # of a package not here
        def get(self, key: str) -> Any:
            return DataStoreResponse(result=body, time=when)

    options = StatsigOptions(
        disable_network=True,
        data_store=Store(),
        disable_all_logging=True,
        disable_country_lookup=True,
        output_log_level="none",
    )
    client = Statsig("secret-none", options)
    client.initialize().wait()
    quiet = FeatureGateEvaluationOptions(disable_exposure_logging=True)
    statement = f"ask(User(i), '{KEY}', quiet)"
    return case(
        *("statsig-python-core", statement, statement),
        ask=client.check_gate,
        User=StatsigUser,
        quiet=quiet,
    )


def growthbook() -> dict[str, Any]:
    """GrowthBook: one instance for all requests, for one made for each is slower."""
    from growthbook import GrowthBook

    rule = {"id": "rule", "force": True, "coverage": PERCENT / 100, "hashAttribute": "id"}
    features = {key: {"defaultValue": False, "rules": [rule]} for key in FLAGS}
    client = GrowthBook(attributes={}, features=features)
    return case(
        "growthbook",
        f"client.set_attributes({{'id': i}}); client.is_on('{KEY}')",
        f"(client.set_attributes({{'id': i}}), client.is_on('{KEY}'))[1]",
        client=client,
    )


def configcat() -> dict[str, Any]:
    """ConfigCat: a cache of its own, offline."""
    import configcatclient
    from configcatclient.configcatoptions import ConfigCatOptions
    from configcatclient.interfaces import ConfigCache
    from configcatclient.pollingmode import PollingMode
    from configcatclient.user import User

    def flag() -> dict[str, Any]:
        shares = [
            {"p": PERCENT, "v": {"b": True}, "i": "on"},
            {"p": 100 - PERCENT, "v": {"b": False}, "i": "off"},
        ]
        return {"t": 0, "p": shares, "v": {"b": False}, "i": "default"}

    preferences = {"u": NOWHERE, "r": 0, "s": "c2FsdA=="}
    told = json.dumps({"p": preferences, "s": [], "f": {key: flag() for key in FLAGS}})

    class Cache(ConfigCache):  # type: ignore[misc, unused-ignore]  # of a package not here
        def get(self, key: str) -> str:
            return f"1700000000000\n1\n{told}"

        def set(self, key: str, value: str) -> None:
            """Keep what there is."""

    client = configcatclient.get(
        "x" * 22 + "/" + "y" * 22,
        ConfigCatOptions(
            polling_mode=PollingMode.manual_poll(), config_cache=Cache(), offline=True
        ),
    )
    statement = f"ask('{KEY}', False, User(i))"
    return case("configcat-client", statement, statement, ask=client.get_value, User=User)


def launchdarkly() -> dict[str, Any]:
    """LaunchDarkly: flags from a file, events off."""
    from ldclient import Config, Context, LDClient
    from ldclient.integrations import Files

    weights = [
        {"variation": 0, "weight": PERCENT * 1000},
        {"variation": 1, "weight": 100_000 - PERCENT * 1000},
    ]

    def flag(key: str) -> dict[str, Any]:
        return {
            "key": key,
            "on": True,
            "version": 1,
            "salt": f"salt-{key}",
            "variations": [True, False],
            "offVariation": 1,
            "prerequisites": [],
            "targets": [],
            "rules": [],
            "fallthrough": {"rollout": {"variations": weights}},
        }

    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"flags": {key: flag(key) for key in FLAGS}, "segments": {}}, file)
        file.flush()
        source = Files.new_data_source(paths=[file.name])
        client = LDClient(Config("none", update_processor_class=source, send_events=False), 5)
    statement = f"ask('{KEY}', user(i), False)"
    return case(
        *("launchdarkly-server-sdk", statement, statement),
        ask=client.variation,
        user=Context.create,
    )


def unleash() -> dict[str, Any]:
    """Unleash: started from a file, metrics and registration off."""
    from UnleashClient import UnleashClient
    from UnleashClient.cache import FileCache

    def feature(key: str) -> dict[str, Any]:
        parameters = {"rollout": str(PERCENT), "stickiness": "userId", "groupId": key}
        strategy = {"name": "flexibleRollout", "constraints": [], "parameters": parameters}
        return {
            "name": key,
            "type": "release",
            "enabled": True,
            "project": "default",
            "stale": False,
            "strategies": [{**strategy, "segments": [], "variants": []}],
            "variants": [],
            "description": None,
            "impressionData": False,
        }

    cache = FileCache("bench", directory=tempfile.mkdtemp())
    cache.bootstrap_from_dict(
        {
            "version": 2,
            "features": [feature(key) for key in FLAGS],
            "segments": [],
            "query": {"environment": "default"},
            "meta": {"revisionId": 1, "etag": '"bench:1"', "queryHash": "bench"},
        }
    )
    client = UnleashClient(
        f"{NOWHERE}/api",
        "bench",
        cache=cache,
        disable_metrics=True,
        disable_registration=True,
        refresh_interval=100_000,
    )
    client.initialize_client(fetch_toggles=False)
    statement = f"ask('{KEY}', {{'userId': i}})"
    return case("UnleashClient", statement, statement, ask=client.is_enabled)


CASES = {
    "eppo": eppo,
    "statsig": statsig,
    "growthbook": growthbook,
    "configcat": configcat,
    "launchdarkly": launchdarkly,
    "unleash": unleash,
}
