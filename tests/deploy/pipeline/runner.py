"""What GitHub's runner does with `deploy.yml`, as far as its steps use our action: in order, each
in a shell, with outputs, a summary, always() and cancelling.

    job = Job(workspace, "production", variables, secrets)
    done = job.run()                      done.codes, done.summary, done.outputs["start"]
    job.run(cancel=lambda step: ...)      SIGINT to the step's first process, and no step after it
                                          but those under always()
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
ACTION = ROOT / "deploy" / "github-action"
WORKFLOW = ROOT / "deploy" / "workflows" / "deploy.yml"
BIN = Path(sys.executable).parent

STEP_SECONDS = 60

_EXPRESSION = re.compile(r"\$\{\{\s*([\w.-]+)\s*\}\}")


@dataclass
class Done:
    """What became of a job. codes: step -> exit code, of those that ran; text: what it printed."""

    codes: dict[str, int] = field(default_factory=dict)
    text: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, dict[str, str]] = field(default_factory=dict)
    status: str = "success"
    summary: str = ""


@dataclass
class Step:
    """A step that runs, for whoever wants to cancel it. lines: what it printed so far."""

    name: str
    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def says(self, words: str) -> bool:
        """Tell whether it printed this."""
        return any(words in line for line in self.lines)


@dataclass
class Job:
    """One job of the workflow, in a workspace.

    overrides: inputs of the action that a test says otherwise.
    """

    workspace: Path
    name: str
    variables: Mapping[str, str]
    secrets: Mapping[str, str]
    overrides: Mapping[str, str] = field(default_factory=dict)
    run_id: str = "4711"
    path: str = f"{BIN}:/usr/bin:/bin"
    environ: Mapping[str, str] = field(default_factory=dict)

    def run(self, cancel: Callable[[Step], bool] | None = None) -> Done:
        """Run the job's steps. cancel: asked again and again while a step runs, until it says that
        the job is to be cancelled now."""
        steps = yaml.safe_load(WORKFLOW.read_text())["jobs"][self.name]["steps"]
        done = Done()
        for step in steps:
            if not step.get("uses", "").partition("@")[0].endswith("deploy/github-action"):
                continue
            if done.status == "success" or step.get("if") == "always()":
                self._step(step, done, cancel)
        summary = self.workspace / "summary.md"
        done.summary = summary.read_text() if summary.exists() else ""
        return done

    def _step(
        self, step: Mapping[str, Any], done: Done, cancel: Callable[[Step], bool] | None
    ) -> None:
        action = yaml.safe_load((ACTION / "action.yml").read_text())
        given = {**step["with"], **self.overrides}
        known = self._contexts(done)
        inputs = {
            name: self._filled(str(given.get(name, told.get("default", ""))), known)
            for name, told in action["inputs"].items()
        }
        assert set(given) <= set(action["inputs"]), "the workflow gives what the action has not"
        (inner,) = action["runs"]["steps"]
        known |= {f"inputs.{name}": value for name, value in inputs.items()}
        env = {name: self._filled(text, known) for name, text in inner["env"].items()}
        do = inputs["do"]
        code, text = self._shell(do, inner["run"], env, done, cancel)
        done.codes[do], done.text[do] = code, text
        done.outputs[step.get("id", do)] = self._outputs()
        if code and done.status == "success":
            done.status = "failure"

    def _shell(
        self,
        do: str,
        run: str,
        env: Mapping[str, str],
        done: Done,
        cancel: Callable[[Step], bool] | None,
    ) -> tuple[int, str]:
        script = self.workspace / "step.sh"
        script.write_text(run)
        (self.workspace / "output").write_text("")
        process = subprocess.Popen(
            ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", str(script)],
            env={
                "PATH": self.path,
                "HOME": str(self.workspace),
                "GITHUB_ACTION_PATH": str(ACTION),
                "GITHUB_OUTPUT": str(self.workspace / "output"),
                "GITHUB_STEP_SUMMARY": str(self.workspace / "summary.md"),
                "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
                **self.environ,
                **env,
            },
            cwd=self.workspace,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        step = Step(do, process)
        watcher = threading.Thread(target=self._cancel, args=(step, done, cancel))
        watcher.start()
        assert process.stdout is not None
        with process.stdout as output:
            for line in output:
                step.lines.append(line)
        code = process.wait(STEP_SECONDS)
        watcher.join()
        return code, "".join(step.lines)

    def _cancel(self, step: Step, done: Done, cancel: Callable[[Step], bool] | None) -> None:
        while cancel is not None and step.process.poll() is None:
            if cancel(step):
                done.status = "cancelled"
                # To the first process alone, as a runner does.
                step.process.send_signal(signal.SIGINT)
                return
            threading.Event().wait(0.05)

    def _contexts(self, done: Done) -> dict[str, str]:
        return {
            **{f"vars.{name}": value for name, value in self.variables.items()},
            **{f"secrets.{name}": value for name, value in self.secrets.items()},
            **{
                f"steps.{id}.outputs.{name}": value
                for id, outputs in done.outputs.items()
                for name, value in outputs.items()
            },
            "github.sha": "0123456789abcdef",
            "github.run_id": self.run_id,
            "github.run_number": "7",
            "github.job": self.name,
            "github.workflow": "Deploy",
            "job.status": done.status,
        }

    def _filled(self, text: str, known: Mapping[str, str]) -> str:
        def value(match: re.Match[str]) -> str:
            name = match.group(1)
            # An output of a step that did not run is empty; anything else must be known here.
            return known[name] if not name.startswith("steps.") else known.get(name, "")

        return _EXPRESSION.sub(value, text)

    def _outputs(self) -> dict[str, str]:
        lines = (self.workspace / "output").read_text().splitlines()
        return {line.partition("=")[0]: line.partition("=")[2] for line in lines}
