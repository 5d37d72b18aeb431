"""`python -m labs_lib`: the course from a terminal.

Exit codes: 0 fine, 1 a gate failed, 2 bad arguments or input, 130 interrupted. Results go to stdout, progress
and the one line that says what is wrong to stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from labs_lib.catalogue import LABS, SYLLABI, Lab, find
from labs_lib.errors import LabError

FINE, GATE_FAILED, BAD_INPUT, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, 130, 141


class Parser(argparse.ArgumentParser):
    """argparse, but what is wrong with the arguments is said in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        raise LabError(f"{message}.", do=f"See: {self.prog} --help")


def add_json(parser: argparse.ArgumentParser) -> None:
    """Adds the option --json, which every sub-command has: print one JSON document in place of text.

    >>> parser = Parser(prog="demo")
    >>> add_json(parser)
    >>> parser.parse_args(["--json"]).json
    True
    """
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def print_result(args: argparse.Namespace, data: object, text: object) -> None:
    """Prints `data` as JSON under --json, else `text`.

    >>> print_result(argparse.Namespace(json=True), {"peak_bytes": 417}, "peak: 417 bytes")
    {"peak_bytes": 417}
    """
    print(json.dumps(data, allow_nan=False) if args.json else text)


def build_parser(command: str | None = None) -> Parser:
    """The parser with the core's sub-commands, and those of the labs.

    Where `command` is one of them, only the lab that brings it is imported: to import all takes seconds.

    >>> build_parser("list").parse_args(["list"]).json
    False
    """
    parser = Parser(prog="python -m labs_lib", description="Labs on making machine-learning code faster.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    doctor = commands.add_parser("doctor", help="what this machine is, and how far each lab runs on it")
    doctor.set_defaults(run=_doctor)
    listing = commands.add_parser("list", help="the labs, their minutes, and your progress")
    listing.add_argument("--syllabus", choices=SYLLABI, help="only the labs of a class of that length, by session")
    listing.set_defaults(run=_list)
    run = commands.add_parser("run", help="execute a lab's notebook and print its summary")
    run.add_argument("lab", help="number or name, such as 01 or static_memory")
    run.set_defaults(run=_run)
    report = commands.add_parser("class-report", help="for teachers: who solved what, from exported journals")
    report.add_argument("folder", metavar="FOLDER", help="with one exported journal for each learner, NAME.jsonl")
    report.add_argument("--csv", action="store_true", help="print a table for a spreadsheet, with every exercise")
    report.set_defaults(run=_class_report)
    for own in (doctor, listing, run, report):
        add_json(own)

    bringing = [lab for lab in LABS if command in lab.commands]
    if not bringing and command not in commands.choices:
        bringing = LABS
    for lab in bringing:
        lab.module("commands").register(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code.

    >>> main(["run", "99"])
    2
    """
    try:
        argv = sys.argv[1:] if argv is None else argv
        args = build_parser(argv[0] if argv else None).parse_args(argv)
        code = args.run(args)
        sys.stdout.flush()  # here, where a closed pipe can still be answered
        return code
    except LabError as error:
        print("labs_lib:", " ".join(" ".join(error.sentences).split()), file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("labs_lib: interrupted.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader, such as `head`, has what it wanted. Python's own flush at exit must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE


def _doctor(args: argparse.Namespace) -> int:
    from labs_lib.machine import doctor

    report = doctor()
    print_result(args, report.as_dict(), report)
    return FINE


def _list(args: argparse.Namespace) -> int:
    from labs_lib.journal import journal

    history = journal()
    if not args.syllabus:
        rows = [_row(lab, history.solved) for lab in LABS]
        print_result(
            args, {"labs": rows, "journal": history.as_dict()}, "\n".join([*map(_line, rows), "", str(history)])
        )
        return FINE
    syllabus = SYLLABI[args.syllabus]
    sessions, lines = [], [f"{syllabus.name}: for {syllabus.for_whom}"]
    for number, session in enumerate(syllabus.sessions, start=1):
        rows = [_row(lab, history.solved) for lab in syllabus.labs(session)]
        minutes = syllabus.minutes(session)
        sessions.append({"minutes": minutes, "labs": rows})
        lines += ["", f"session {number}: {minutes} of {syllabus.session_minutes} min", *map(_line, rows)]
    data = {
        "syllabus": syllabus.name,
        "for_whom": syllabus.for_whom,
        "session_minutes": syllabus.session_minutes,
        "sessions": sessions,
    }
    print_result(args, data, "\n".join(lines))
    return FINE


def _row(lab: Lab, solved: list[str]) -> dict[str, object]:
    """What `list` says of a lab."""
    module = lab.module("exercises")
    exercises = list(module.EXERCISES) if module else []
    return {
        "number": lab.number,
        "subject": lab.subject,
        "title": lab.title,
        "question": lab.question,
        "minutes": lab.minutes,
        "exercises": exercises,
        "solved": [exercise for exercise in exercises if exercise in solved],
    }


def _line(row: dict) -> str:
    width = max(len(lab.title) for lab in LABS)
    solved = f"{len(row['solved'])} of {len(row['exercises'])} exercises solved"
    return f"{row['number']}  {row['title']:{width}}  {row['minutes']:3} min  {solved}"


def _class_report(args: argparse.Namespace) -> int:
    from labs_lib.class_report import class_report

    report = class_report(args.folder)
    print_result(args, report.as_dict(), report.csv().rstrip("\n") if args.csv else report)
    return FINE


def _run(args: argparse.Namespace) -> int:
    from labs_lib.headless import run_notebook

    lab = find(args.lab)
    run = run_notebook(lab.notebook)
    lines = [f"Lab {lab.number}, {lab.title}: {run.cells} code cells in {run.seconds:.1f} s.", run.summary]
    print_result(args, {"lab": lab.number, **run.as_dict()}, "\n".join(filter(None, lines)))
    if run.failed_cell:
        error = " ".join(run.error.split())
        print(f"labs_lib: cell {run.failed_cell} failed with {error}", file=sys.stderr)
        return GATE_FAILED
    return FINE
