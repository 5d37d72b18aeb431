"""`python -m labs_lib augment`: the same lines from any engine, however the file is cut; mistakes in one line."""

import json

import pytest

import labs_lib.text_pipeline as text
from labs_lib import cli
from labs_lib.errors import LabError
from labs_lib.text_pipeline import commands
from labs_lib.text_pipeline import corpus as corpora
from labs_lib.text_pipeline.stream import augment_file


def run(*arguments):
    """As `labs_lib.cli.main` does, with this command alone."""
    parser = cli.Parser(prog="python -m labs_lib")
    commands.register(parser.add_subparsers())
    args = parser.parse_args(["augment", *map(str, arguments)])
    return args.run(args)


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "in.txt"
    path.write_bytes("".join([*(s + "\n" for s in text.sentences(200)), "CRLF line\r\n", "\n", "naïve π 🙂"]).encode())
    return path


def lines_of(path):
    return path.read_bytes().decode().split("\n")


def test_each_line_is_the_references(tmp_path, source, capsys):
    target = tmp_path / "out.txt"
    assert run(source, "--output", target, "--seed", 5, "--remove", 0.1, "--shuffle", 0.5) == 0
    rates = text.Rates(remove=0.1, shuffle=0.5)
    bodies = [line.removesuffix("\r") for line in lines_of(source)]
    expected = [text.augment_by_characters(s, index, 5, rates) for index, s in enumerate(bodies)]
    expected[200] += "\r"
    assert lines_of(target) == expected
    assert capsys.readouterr().out.startswith("203 lines: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.txt", "out.txt"]


@pytest.mark.parametrize("engine", text.ENGINES)
@pytest.mark.parametrize("block", [1, 1000])
def test_neither_engine_nor_block_changes_a_byte(tmp_path, source, monkeypatch, engine, block):
    whole, cut = tmp_path / "whole.txt", tmp_path / "cut.txt"
    augment_file(source, whole, 0, clean=True)
    monkeypatch.setattr(corpora, "BLOCK", block)
    assert run(source, "--output", cut, "--engine", engine, "--clean") == 0
    assert cut.read_bytes() == whole.read_bytes()


def test_json(tmp_path, source, capsys):
    assert run(source, "--output", tmp_path / "out.txt", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["lines"] == 203
    assert found["characters_out"] == sum(len(line.rstrip("\r")) for line in lines_of(tmp_path / "out.txt"))


def test_an_empty_file_stays_empty(tmp_path):
    (tmp_path / "in.txt").touch()
    assert run(tmp_path / "in.txt", "--output", tmp_path / "out.txt") == 0
    assert (tmp_path / "out.txt").read_bytes() == b""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["in.txt", "--output", "in.txt"], "names the input"),
        (["none.txt", "--output", "out.txt"], "Can't read"),
        (["latin.txt", "--output", "out.txt"], "not UTF-8"),
        (["in.txt", "--output", "folder"], "is no file"),
        (["in.txt", "--output", "none/out.txt"], "Can't write"),
        (["in.txt", "--output", "in.txt/out.txt"], "Can't write"),
        (["in.txt", "--output", "out.txt", "--seed", "-1"], "no whole number"),
        (["in.txt", "--output", "out.txt", "--seed", str(2**64)], "no whole number"),
        (["in.txt", "--output", "out.txt", "--remove", "2"], "no probability"),
        (["in.txt", "--output", "out.txt", "--remove", "nan"], "no probability"),
        (["in.txt", "--output", "out.txt", "--remove", "0.6", "--insert", "0.6"], "more than 1"),
        (["in.txt"], "--output"),
    ],
)
def test_mistakes_are_said_and_leave_nothing_behind(tmp_path, source, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latin.txt").write_bytes(b"fine\nna\xefve")
    (tmp_path / "folder").mkdir()
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(LabError) as caught:
        run(*arguments)
    assert message in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_failure_leaves_the_old_output_alone(tmp_path):
    (tmp_path / "in.txt").write_bytes(b"fine\n" * 9 + b"na\xefve")
    (tmp_path / "out.txt").write_text("old")
    with pytest.raises(LabError):
        augment_file(tmp_path / "in.txt", tmp_path / "out.txt", 0)
    assert (tmp_path / "out.txt").read_text() == "old"
