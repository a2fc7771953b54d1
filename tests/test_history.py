"""Whether a store was empty when its client came, from what a relay between them kept."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from ditto.artifacts.plan import Framing
from ditto.host.history import starts_empty
from ditto.host.spoken import Stream
from ditto.model.classes import keys_asked
from ditto.streams.protocol import recognise, reply_shape


class Talk:
    """Connections of a client to a store, their requests one after the other."""

    def __init__(self, framing: Framing, held: set[bytes], forgets: float = 0.0) -> None:
        self.framing, self.held, self.forgets = framing, held, forgets
        self.streams = [Stream() for _ in range(4)]
        self.moments = 0

    def say(self, number: int, key: bytes, value: bytes | None, drop: bool = False) -> None:
        resp = self.framing is Framing.RESP2
        if value is not None:
            words = [b"set", key, value]
            request = b"set %s 0 0 %d\r\n%s\r\n" % (key, len(value), value)
            reply = b"+OK\r\n" if resp else b"STORED\r\n"
            self.held.add(key)
        elif drop:
            words = [b"del", key]
            request = b"delete %s\r\n" % key
            reply = b":%d\r\n" % (key in self.held) if resp else (b"NOT_FOUND\r\n", b"DELETED\r\n")[key in self.held]
            self.held.discard(key)
        else:
            words = [b"get", key]
            request = b"get %s\r\n" % key
            found = key in self.held
            value_lines = b"VALUE %s 0 3\r\na\r\n\r\n" % key * found
            reply = (b"$-1\r\n", b"$3\r\na\r\n\r\n")[found] if resp else value_lines + b"END\r\n"
        if resp:
            request = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)
        stream = self.streams[number]
        stream.turns.append((request, len(reply)))
        stream.answered += reply
        stream.asked_at.append((len(stream.said), self.moments))
        stream.answered_at.append((len(stream.answered), self.moments + 1))
        self.moments += 2

    def mixed(self, requests: int, keys: int) -> Talk:
        draw = random.Random(3)
        for _ in range(requests):
            self.say(draw.randrange(4), b"k%d" % draw.randrange(keys), b"v\r\nw" if draw.random() < 0.5 else None)
            if draw.random() < self.forgets:
                self.held.clear()
        return self


@pytest.mark.parametrize("framing", [Framing.RESP2, Framing.MEMCACHED])
def test_a_store_whose_reads_hit_only_what_was_stored_started_empty(framing: Framing) -> None:
    assert starts_empty(framing, Talk(framing, set()).mixed(2000, 1000).streams)
    # In two phases, on connections of their own.
    talk = Talk(framing, set())
    for number in range(400):
        talk.say(number % 2, b"k%d" % (number * 7 % 900), b"v")
    for number in range(400):
        talk.say(2 + number % 2, b"k%d" % (number * 13 % 900), None)
    assert starts_empty(framing, talk.streams)


@pytest.mark.parametrize("framing", [Framing.RESP2, Framing.MEMCACHED])
def test_a_store_that_had_keys_or_loses_them_is_told_apart(framing: Framing) -> None:
    filled = {b"k%d" % number for number in range(0, 1000, 10)}
    assert not starts_empty(framing, Talk(framing, filled).mixed(2000, 1000).streams)
    assert not starts_empty(framing, Talk(framing, set(), forgets=0.02).mixed(2000, 1000).streams)
    # Nothing tells.
    assert not starts_empty(framing, Talk(framing, set()).mixed(2000, 8).streams)
    assert not starts_empty(framing, [])


@pytest.mark.parametrize("framing", [Framing.RESP2, Framing.MEMCACHED])
def test_what_was_read_before_it_was_stored_and_what_was_dropped_again_tell_as_well(framing: Framing) -> None:
    def talk(held: set[bytes]) -> Talk:
        told, draw = Talk(framing, held), random.Random(5)
        for _ in range(4000):
            key, chance = b"k%d" % draw.randrange(200), draw.random()
            told.say(draw.randrange(4), key, b"v" if chance < 0.3 else None, drop=0.3 <= chance < 0.6)
        return told

    # All keys are stored at some time, and most of them dropped.
    assert starts_empty(framing, talk(set()).streams)
    assert not starts_empty(framing, talk({b"k%d" % number for number in range(0, 200, 2)}).streams)
    # Who was first is not known.
    unknown = talk(set())
    for stream in unknown.streams:
        stream.asked_at, stream.answered_at = [], []
    assert not starts_empty(framing, unknown.streams)


def test_other_protocols_have_no_keys() -> None:
    assert not starts_empty(Framing.HTTP1, Talk(Framing.RESP2, set()).mixed(2000, 1000).streams)


def _of_store(tmp_path: Path, name: str, *options: str, arguments: tuple[str, ...] = ()) -> str:
    """What a program of ``tests/runtime`` prints of the store."""
    here = Path(__file__).parent
    flags = ["-std=gnu11", "-D_GNU_SOURCE", "-O1", f"-I{here.parent / 'native/runtime'}", *options]
    program = tmp_path / "store"
    subprocess.run(["cc", *flags, str(here / f"runtime/{name}.c"), "-o", str(program)], check=True)
    return subprocess.run([str(program), *arguments], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("known", "said"), [("1", "0 1 0"), ("0", "-1 -1 -1")])
def test_a_clone_whose_original_started_empty_knows_its_keys_from_the_first_request_on(
    tmp_path: Path, known: str, said: str
) -> None:
    assert _of_store(tmp_path, "known_keys", arguments=(known,)).splitlines() == [said, said]


def test_far_reads_lead_through_the_whole_store_from_what_was_asked_for(tmp_path: Path) -> None:
    """Every slot is on the round once, neighbours on it are no neighbours in memory (by chance, 32 of 20,000 are), and
    the blocks' own pool is read only where it is the larger one."""
    slots, found, near, same, pool, walked = _of_store(tmp_path, "stored_round", "-DIN_STORE=1").split(" | ")
    assert (slots, found, same, pool, walked) == ("20000", "20000", "1 1", "0 40", "1\n") and int(near) < 200
    assert _of_store(tmp_path, "stored_round", "-DIN_STORE=0") == "0\n"


def test_waits_that_are_computed_read_neither_the_store_nor_the_blocks_memory(tmp_path: Path) -> None:
    said = _of_store(tmp_path, "stored_round", "-DIN_STORE=1", "-DCOMPUTED=1")
    assert said.split(" | ")[-2:] == ["0 0", "0\n"]


def test_memcached_with_meta_commands_is_recognised_and_its_replies_have_their_kinds() -> None:
    asked = [b"mg k v\r\n", b"mg k v t k\r\n", b"ms k 3 T90\r\nabc\r\n", b"md k\r\n", b"ma n N0 J5 v\r\n"]
    said = [b"VA 3\r\nabc\r\n", b"EN kk\r\n", b"HD\r\n", b"NF\r\n", b"VA 2\r\n12\r\n"]
    assert recognise(asked, said) == "memcached"
    shapes = [reply_shape("memcached", reply, len(reply), len(reply)) for reply in said]
    assert [(shape.kind, shape.size) for shape in shapes[:1] + shapes[-1:]] == [("value", 3), ("value", 2)]
    assert [shape.kind for shape in shapes[1:-1]] == ["miss", "stored", "not_found"]
    assert keys_asked(b"mg k v t k\r\n", 12) == 1 and keys_asked(b"gat 100 a b\r\n", 13) == 2
