"""Traces over the whole engine: one for each rollout, whoever has a hand in it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import format_trace_id

from flagserver import telemetry, tracing
from flagserver.aws import AwsRefused, AwsThrottled
from flagserver.domain.commands import Reasoned
from flagserver.domain.errors import Refusal
from flagserver.domain.rollout_commands import NewRollout
from flagserver.domain.states import State
from flagserver.domain.targets import Reading, Target
from flagserver.main import main
from flagserver.telemetry import Telemetry
from tests.builders import ADMIN, FakeClock
from tests.engines import RULE, Engine, a_rollout, only_flag
from tests.fakes import FakeTargetDriver


class CalledDriver(FakeTargetDriver):
    """One whose verbs call AWS, as the ALB's do. call: what is around each call."""

    call: Any

    def read_all(self, targets: Collection[Target]) -> Mapping[Target, Reading | Refusal]:
        with self.call("elbv2", "describe_rules"):
            return super().read_all(targets)

    def set(self, target: Target, share: int, before: Reading, deadline: float) -> Reading:
        with self.call("elbv2", "modify_rule"):
            return super().set(target, share, before, deadline)

    def roll_back(self, target: Target, deadline: float) -> Reading:
        with self.call("elbv2", "modify_rule"):
            return super().roll_back(target, deadline)


@dataclass
class Traced:
    """An engine whose processes share a collector, each with a telemetry of its own."""

    directory: Path
    spans: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        self.driver = CalledDriver()
        first = self.process()
        self.driver.call = first.call
        self.engine = Engine(
            clock=self.clock, directory=self.directory, driver=self.driver, telemetry=first
        )

    def process(self) -> Telemetry:
        provider = tracing.provide([SimpleSpanProcessor(self.spans)])
        return Telemetry(tracing.Traces(provider, self.clock))

    def found(self, name: str | None = None) -> list[ReadableSpan]:
        every = self.spans.get_finished_spans()
        return [span for span in every if name in (None, span.name)]

    def traces(self) -> set[int]:
        return {_context(span).trace_id for span in self.found()}

    def tree(self) -> dict[str, set[str | None]]:
        """The name of each span -> those of its parents; None: no parent, ?: one nobody wrote."""
        names = {_context(span).span_id: span.name for span in self.found()}
        tree: dict[str, set[str | None]] = {}
        for span in self.found():
            parent = span.parent
            above = None if parent is None else names.get(parent.span_id, "?")
            tree.setdefault(span.name, set()).add(above)
        return tree


def _context(span: ReadableSpan) -> Any:
    assert span.context is not None
    return span.context


def seconds(span: ReadableSpan, since: ReadableSpan) -> tuple[float, float]:
    """When a span began and ended, from the beginning of another."""
    assert span.start_time is not None
    assert span.end_time is not None
    assert since.start_time is not None
    return (span.start_time - since.start_time) / 1e9, (span.end_time - since.start_time) / 1e9


def told(span: ReadableSpan) -> Mapping[str, Any]:
    assert span.attributes is not None
    return span.attributes


@pytest.fixture
def traced(tmp_path: Path) -> Traced:
    return Traced(tmp_path)


class TestOneTrace:
    def test_a_rollout_is_one_trace_with_a_span_for_each_step_look_and_call(self, traced: Traced):
        engine = traced.engine
        id = engine.start()
        engine.run(1860)

        assert engine.rollout(id).state is State.COMPLETED
        assert len(traced.traces()) == 1
        (root,) = traced.found("rollout")
        assert told(root)["sortition.rollout"] == id
        assert told(root)["sortition.state"] == "completed"
        steps = traced.found("step")
        assert [told(s)["sortition.share"] for s in steps] == [5, 25, 50, 100]
        assert traced.tree() == {
            "rollout": {None},
            "step": {"rollout"},
            "look": {"rollout", "step"},
            "elbv2 describe_rules": {"look"},
            "elbv2 modify_rule": {"look"},
        }
        assert len(traced.found("elbv2 modify_rule")) == 4

        # They lie where the schedule has them: a step begins at the look that ended another.
        one, two, three, four = (seconds(span, root) for span in steps)
        assert [end - begin for begin, end in (one, two, three)] == [300, 600, 900]
        assert (one[1], two[1], three[1]) == (two[0], three[0], four[0])
        assert four[1] == seconds(root, root)[1]
        (confirmed,) = [event for event in steps[0].events if event.name == "confirmed"]
        assert root.start_time is not None
        assert confirmed.timestamp - root.start_time == one[0] * 1e9

    def test_a_look_tells_its_verdicts_and_what_followed(self, traced: Traced):
        traced.engine.start()
        traced.engine.run(20)

        looks = traced.found("look")
        names = [event.name for look in looks for event in look.events]
        assert {"rollout:start", "rollout:step:begin", "rollout:step:confirm"} < {*names}
        verdicts = [e.attributes for look in looks for e in look.events if e.name == "verdict"]
        assert {v["sortition.guard"] for v in verdicts if v is not None} == {"errors"}
        assert told(looks[-1])["sortition.does"] == "stay"

    def test_another_controller_goes_on_with_the_same_trace(self, traced: Traced):
        engine = traced.engine
        second = engine.new_controller("second", telemetry=traced.process())
        id = engine.start()
        engine.run(400)
        before = len(traced.found())
        # The first is killed: nothing of it is written any more, and its leases run out.
        engine.let_leases_end()
        engine.run(1500, second)

        assert engine.rollout(id).state is State.COMPLETED
        assert len(traced.found()) > before
        assert len(traced.traces()) == 1
        assert Counter(span.name for span in traced.found())["rollout"] == 1
        assert len(traced.found("step")) == 4
        # None is within a span that nobody wrote, although two processes wrote them.
        assert "?" not in {name for above in traced.tree().values() for name in above}

    def test_a_rollback_is_a_span_and_so_is_what_it_took(self, traced: Traced):
        engine = traced.engine
        engine.start()
        engine.run(400)
        engine.rates = (0.2, 0.001)
        engine.run(240)

        assert len(traced.traces()) == 1
        (back,), (root,) = traced.found("rollback"), traced.found("rollout")
        assert told(back) == {
            "sortition.rollback.by": "guard",
            "sortition.rollback.row": "backstop",
            "sortition.rollback.guard": "errors",
        }
        assert [event.name for event in back.events] == ["first_bad", "applied"]
        assert root.status.description == "rolled back"
        assert seconds(back, root)[1] == seconds(root, root)[1]
        assert "?" not in {name for above in traced.tree().values() for name in above}
        assert [told(s)["sortition.step"] for s in traced.found("step")] == [1, 2]

    def test_whoever_ends_it_writes_its_span(self, traced: Traced):
        """A person's click in a web process, with no controller anywhere."""
        engine = traced.engine
        web = engine.another_process(telemetry=traced.process())
        older = engine.start(**only_flag())
        engine.run(20)
        newer = engine.start(**only_flag(replace=True))
        waiting = web.rollouts.start(_later(engine), ADMIN).rollout.id
        web.rollouts.roll_back(waiting, Reasoned(reason="not today"), ADMIN)

        ended = {told(span)["sortition.rollout"]: span for span in traced.found("rollout")}
        assert set(ended) == {older, waiting}
        assert told(ended[older])["sortition.state"] == "superseded"
        assert told(ended[waiting])["sortition.state"] == "rolled_back"
        assert newer not in ended
        assert len({_context(span).trace_id for span in ended.values()}) == 2

    def test_two_rollouts_are_two_traces_and_share_a_call(self, traced: Traced):
        engine = traced.engine
        other = Target.of("alb", "arn:other", canary="arn:green-2", stable="arn:blue-2")
        engine.driver.add(other)
        engine.start()
        engine.start(targets=[{**other.to_body(), "mode": "drive"}], service="mail")
        engine.run(40)

        assert len(traced.traces()) == 2
        shared = [span for span in traced.found("elbv2 describe_rules") if span.links]
        assert shared
        for call in shared:
            (link,) = call.links
            assert {link.context.trace_id, _context(call).trace_id} == traced.traces()


class TestCalls:
    def test_a_refused_call_tells_its_code_and_not_its_words(self, traced: Traced):
        engine = traced.engine
        words = "User: arn:aws:iam::1:user/alice is not authorized"
        engine.start()
        engine.run(20)
        traced.spans.clear()

        call = traced.driver.call
        with call("elbv2", "describe_rules"):
            pass
        assert traced.found() == [], "it belongs to no rollout"

        def read_all(targets: Collection[Target]) -> Mapping[Target, Reading | Refusal]:
            with call("elbv2", "describe_rules"):
                raise AwsRefused(words, "AccessDenied")

        engine.driver.read_all = read_all  # type: ignore[method-assign]
        engine.tick()

        (span,) = traced.found("elbv2 describe_rules")
        assert told(span)["error.type"] == "AccessDenied"
        assert "alice" not in span.to_json()

    def test_how_they_end_is_counted(self):
        seen = Telemetry()
        with seen.call("elbv2", "modify_rule"):
            pass
        for error in (AwsThrottled("", "Throttling"), AwsRefused("", "Nope"), TimeoutError()):
            with pytest.raises(type(error)), seen.call("elbv2", "modify_rule"):
                raise error

        assert seen.tally.samples()["cloud_calls"] == {
            ("elbv2", "modify_rule", outcome): 1
            for outcome in ("ok", "throttled", "refused", "unknown")
        }


class TestPrivacy:
    def test_a_trace_holds_no_person_and_nothing_that_one_wrote(self, traced: Traced):
        engine = traced.engine
        id = engine.start(reason="because Alice says so")
        engine.run(20)
        engine.rollouts.roll_back(id, Reasoned(reason="Bob does not like it"), ADMIN)
        engine.run(20)

        text = "".join(span.to_json() for span in traced.found())
        assert engine.rollout(id).state is State.ROLLED_BACK
        assert traced.tree()["look"] == {"rollout", "step", "rollback"}
        for secret in ("Alice", "Bob", ADMIN.id, RULE.name):
            assert secret not in text


class TestSampling:
    def test_every_process_decides_alike(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
        monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
        traced = Traced(tmp_path)
        engine = traced.engine
        second = engine.new_controller("second", telemetry=traced.process())
        for number in range(12):
            engine.create(f"flag-{number}")
            engine.start(
                targets=[{"kind": "flag", "name": f"flag-{number}"}],
                service=f"service-{number}",
                schedule="10%:1m,100%",
                guards=[],
            )
        engine.run(40)
        engine.let_leases_end()
        engine.run(80, second)

        whole = {_context(span).trace_id for span in traced.found("rollout")}
        assert 0 < len(whole) < 12
        # Of the others nothing is written at all, by neither.
        assert traced.traces() == whole


class TestSettings:
    @pytest.mark.parametrize("environ", [{}, {"OTEL_TRACES_EXPORTER": ""}])
    def test_nothing_is_traced_unless_somebody_asks(self, environ: dict[str, str]):
        assert telemetry.read_exporters(environ) == ()

    @pytest.mark.parametrize(
        ("text", "exporters"),
        [
            ("none", ()),
            ("otlp", ("otlp",)),
            ("console", ("console",)),
            ("OTLP, console", ("otlp", "console")),
        ],
    )
    def test_by_the_variables_of_opentelemetry(self, text: str, exporters: tuple[str, ...]):
        assert telemetry.read_exporters({"OTEL_TRACES_EXPORTER": text}) == exporters

    def test_it_can_all_be_switched_off(self):
        environ = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "true"}
        assert telemetry.read_exporters(environ) == ()

    def test_an_unknown_exporter_stops_the_start_and_lists_the_known(self):
        with pytest.raises(ValueError, match="'zipkin'; known are: none, console, otlp"):
            telemetry.read_exporters({"OTEL_TRACES_EXPORTER": "zipkin"})

    def test_another_protocol_is_not_spoken(self):
        environ = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
        with pytest.raises(ValueError, match="OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc'"):
            telemetry.read_exporters(environ)

    @pytest.mark.parametrize(
        ("name", "value", "called"),
        [
            ("OTEL_SERVICE_NAME", "", "sortition"),
            ("OTEL_SERVICE_NAME", "flags", "flags"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=ours", "ours"),
        ],
    )
    def test_it_has_a_name(
        self, monkeypatch: pytest.MonkeyPatch, name: str, value: str, called: str
    ):
        monkeypatch.setenv(name, value)
        assert tracing.provide([]).resource.attributes["service.name"] == called


def test_a_span_on_the_console_is_one_line(capsys: pytest.CaptureFixture[str]):
    provider = tracing.provide([SimpleSpanProcessor(tracing.EXPORTERS["console"]())])
    for name in ("one", "two"):
        provider.get_tracer("t").start_span(name).end()

    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["one", "two"]


@pytest.mark.parametrize("command", ["run", "web", "controller"])
def test_a_process_says_what_it_cannot_follow(command: str, tmp_path: Path):
    environ = {
        "OTEL_TRACES_EXPORTER": "jaeger",
        "SORTITION_DATA_DIR": str(tmp_path),
        "SORTITION_REDIS_URL": "redis://127.0.0.1:1",
    }
    done = CliRunner().invoke(main, [command], env=environ)

    assert done.exit_code == 1
    assert "OTEL_TRACES_EXPORTER names 'jaeger'; known are: none, console, otlp." in done.output


def test_what_goes_wrong_in_tracing_stops_no_rollout(
    traced: Traced, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("out of order")

    for name in ("look", "judged", "turned", "_write_call"):
        monkeypatch.setattr(tracing.Traces, name, broken)
    id = traced.engine.start()
    traced.engine.run(20)

    assert (traced.engine.weight, traced.engine.share) == (5, 5)
    assert traced.engine.actions(id)[-1] == "step:confirm"
    assert "something was not counted or traced" in caplog.text


def test_the_id_of_a_trace_is_of_w3c_and_follows_from_the_rollout(traced: Traced):
    engine = traced.engine
    rollout = engine.rollout(engine.start())

    assert tracing.trace_id(rollout) == tracing.trace_id(engine.rollout(rollout.id))
    assert len(format_trace_id(tracing.trace_id(rollout))) == 32


def _later(engine: Engine) -> NewRollout:
    engine.create("later")
    return a_rollout(
        targets=[{"kind": "flag", "name": "later"}], start_at="2027-01-01T00:00:00Z", guards=[]
    )
