"""Drives a server through borgstore's own client library and checks every answer.

usage: client.py URL [CHECK...]    URL must not exist yet; it does not exist afterwards either

Prints a line for each check. Exit code 0: all held.
"""

import hashlib
import os
import sys
import tempfile
import time
import traceback

import blake3
import borgstore
from borgstore.backends.errors import BackendAlreadyExists, BackendDoesNotExist, ObjectNotFound, ReadRangeError
from borgstore.store import Store, get_backend

URL = sys.argv[1]
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def same(got, want, what=""):
    if got != want:
        got, want = (repr(x) if len(repr(x)) < 300 else repr(x)[:300] + "…" for x in (got, want))
        raise AssertionError(f"{what}: got {got}, want {want}")


def raises(error, call, *args, **kwargs):
    try:
        result = call(*args, **kwargs)
        if hasattr(result, "__next__"):
            list(result)
    except error:
        return
    raise AssertionError(f"{call.__name__}{args}: no {error.__name__}")


def names(backend, where):
    return [item.name for item in backend.list(where)]


class Created:
    """A backend that is created, opened, and destroyed at the end."""

    def __enter__(self):
        self.backend = get_backend(URL)
        self.backend.create()
        self.backend.open()
        return self.backend

    def __exit__(self, *exc):
        self.backend.close()
        self.backend.destroy()


@check
def life():
    backend = get_backend(URL)
    raises(BackendDoesNotExist, backend.destroy)
    backend.create()
    backend.create()  # still empty, so it may be repeated
    with backend:
        backend.store("key", b"value")
    raises(BackendAlreadyExists, backend.create)
    with backend:
        same(backend.load("key"), b"value")
    backend.destroy()
    raises(BackendDoesNotExist, backend.destroy)
    with backend:
        raises(BackendDoesNotExist, backend.load, "key")
        raises(BackendDoesNotExist, backend.store, "key", b"value")
    backend.create()
    with backend:
        raises(ObjectNotFound, backend.load, "key")
    backend.destroy()


@check
def items():
    with Created() as backend:
        same(names(backend, ""), [])
        backend.store("a", b"one")
        backend.store("b", b"")
        same(names(backend, ""), ["a", "b"])
        same(backend.load("a"), b"one")
        same(backend.load("b"), b"")
        info = backend.info("a")
        same((info.exists, info.size, info.directory), (True, 3, False))
        assert info.atime > 0, info
        backend.store("a", b"another")
        same(backend.load("a"), b"another", "overwritten")
        backend.move("a", "c")
        assert not backend.info("a").exists
        same(backend.load("c"), b"another")
        backend.move("c", "b")
        same(backend.load("b"), b"another", "moved onto")
        backend.move("b", "b")
        same(backend.load("b"), b"another", "moved onto itself")
        raises(ObjectNotFound, backend.move, "missing", "new/dir/x")
        backend.delete("b")
        raises(ObjectNotFound, backend.load, "b")
        raises(ObjectNotFound, backend.delete, "b")
        same(names(backend, "") in ([], ["new"]), True)
        for name in "b", "missing/x":
            assert not backend.info(name).exists


@check
def namespaces():
    with Created() as backend:
        backend.mkdir("data")
        backend.mkdir("data")
        backend.store("data/00/k0", b"v0")
        backend.store("deep/a/b/c/k", b"v")
        same(names(backend, ""), ["data", "deep"])
        same(names(backend, "data"), ["00"])
        same(names(backend, "data/00"), ["k0"])
        assert backend.info("data").directory and backend.info("deep/a/b").directory
        raises(ObjectNotFound, backend.list, "missing")
        raises(ObjectNotFound, backend.load, "missing/x")
        backend.delete("data/00/k0")
        same(names(backend, "data/00"), [], "a directory outlives its items")
        backend.rmdir("data/00")
        backend.rmdir("data")
        raises(ObjectNotFound, backend.rmdir, "data")
        raises(ObjectNotFound, backend.list, "data")
        same(names(backend, ""), ["deep"])
        backend.store("obj", b"x")
        if borgstore.__version__ >= "0.6.4":
            raises(ObjectNotFound, backend.load, "obj/below")
            raises(ObjectNotFound, backend.delete, "obj/below")
            assert not backend.info("obj/below").exists


@check
def listing():
    with Created() as backend:
        want = sorted(hashlib.sha256(b"%d" % i).hexdigest() for i in range(700))
        for name in want:
            backend.store("locks/" + name, b"12345")
        backend.mkdir("locks/sub")
        started = time.time()
        got = list(backend.list("locks"))
        same([item.name for item in got], sorted(want + ["sub"]), "sorted by name")
        for item in got:
            if item.name == "sub":
                assert item.directory
                continue
            same((item.size, item.directory), (5, False))
            assert 0 < item.atime <= started + 60, item
            if hasattr(item, "mtime"):
                assert started - 600 < item.mtime <= started + 60, f"{item}: written just now"


@check
def ranges():
    with Created() as backend:
        value = b"0123456789"
        backend.store("key", value)
        backend.store("empty", b"")
        for offset in range(0, 14):
            same(backend.load("key", offset=offset), value[offset:], f"from {offset}")
            for size in range(1, 14):
                same(backend.load("key", offset=offset, size=size), value[offset : offset + size], f"{offset}+{size}")
        for back in range(1, 11):
            same(backend.load("key", offset=-back), value[-back:], f"last {back}")
            for size in range(1, 14):
                same(backend.load("key", offset=-back, size=size), value[-back:][:size], f"last {back}, {size} of it")
        same(backend.load("empty", size=5), b"")
        raises(ObjectNotFound, backend.load, "missing", size=5)


@check
def sizes():
    with Created() as backend:
        for exponent in range(9):
            value = os.urandom(4096) * (10**exponent // 4096 + 1)
            value = value[: 10**exponent]
            backend.store("key", value)
            assert backend.load("key") == value, f"10^{exponent} bytes differ"
            same(backend.info("key").size, len(value))
            same(backend.hash("key"), hashlib.sha256(value).hexdigest())


@check
def hashes():
    with Created() as backend:
        backend.store("key", b"hash me")
        backend.store("empty", b"")
        for algorithm in sorted(hashlib.algorithms_guaranteed - {"shake_128", "shake_256"}):
            same(backend.hash("key", algorithm=algorithm), hashlib.new(algorithm, b"hash me").hexdigest(), algorithm)
            same(backend.hash("empty", algorithm=algorithm), hashlib.new(algorithm).hexdigest(), algorithm)
        same(backend.hash("key", algorithm="blake3"), blake3.blake3(b"hash me").hexdigest())
        for algorithm in "bogus", "shake_128":
            raises(ValueError, backend.hash, "key", algorithm=algorithm)
        raises(ObjectNotFound, backend.hash, "missing")


@check
def defrag():
    with Created() as backend:
        backend.store("packs/f1/file1", b"0123456789")
        backend.store("packs/f2/file2", b"abcdefghij")
        sources = [("packs/f1/file1", 2, 3), ("packs/f2/file2", 5, 2)]
        for algorithm in "sha256", "md5", "blake3":
            digest = (blake3.blake3(b"234fg") if algorithm == "blake3" else hashlib.new(algorithm, b"234fg")).hexdigest()
            want = f"packs/{digest[:2]}/{digest}"
            same(backend.defrag(sources, algorithm=algorithm, namespace="packs", levels=1), want)
            same(backend.load(want), b"234fg")
            same(backend.defrag(sources, algorithm=algorithm, namespace="packs", levels=1), want, "again")
        same(backend.defrag(sources, target="packs/x/target", namespace="packs"), "packs/x/target")
        same(backend.load("packs/x/target"), b"234fg")
        same(backend.defrag([("packs/f1/file1", 8, 2)], target="packs/f1/file1"), "packs/f1/file1")
        same(backend.load("packs/f1/file1"), b"89", "a source as its own target")
        before = names(backend, "packs")
        raises(ReadRangeError, backend.defrag, [("packs/f2/file2", 2, 20)], algorithm="sha256", namespace="packs")
        raises(ObjectNotFound, backend.defrag, [("packs/f2/missing", 0, 1)], algorithm="sha256", namespace="packs")
        same(names(backend, "packs"), before, "nothing left of failed ones")
        many = [("packs/f2/file2", i % 10, 1) for i in range(5000)]
        name = backend.defrag(many, algorithm="sha256", namespace="packs", levels=1)
        same(backend.load(name), b"abcdefghij" * 500)


@check
def gather():
    with Created() as backend:
        if not hasattr(backend, "gather"):
            return
        backend.store("a/k1", b"0123456789")
        backend.store("b/k2", b"abcdefghij")
        same(backend.gather([]), b"")
        same(backend.gather([("b/k2", 0, 10)]), b"abcdefghij")
        same(backend.gather([("b/k2", 5, 2), ("a/k1", 2, 3), ("b/k2", 0, 0), ("b/k2", -2, 2)]), b"fg234ij")
        same(backend.gather([("a/k1", i % 10, 1) for i in range(3000)]), b"0123456789" * 300)
        same(backend.gather([("a/k1", 50, 0)]), b"")
        raises(ReadRangeError, backend.gather, [("a/k1", 0, 3), ("a/k1", 5, 6)])
        raises(ObjectNotFound, backend.gather, [("a/k1", 0, 3), ("missing", 0, 1)])
        same(backend.gather([("a/k1", 0, 1)]), b"0", "usable after errors")


@check
def quota():
    with Created() as backend:
        same(sorted(backend.quota()), ["limit", "usage"])


CONFIG = {"archives/": {"levels": [0]}, "packs/": {"levels": [1]}, "moving/": {"levels": [1, 2]}, "": {"levels": [0]}}


def story(store, caches=False):
    """The same items by way of a Store: nesting, soft deletion, listing."""
    packs = {hashlib.sha256(b"%d" % i).hexdigest(): b"%d" % i * 1000 for i in range(60)}
    with store:
        for name, value in packs.items():
            store.store("packs/" + name, value)
        same(sorted(item.name for item in store.list("packs")), sorted(packs))
        for name, value in packs.items():
            same(store.load("packs/" + name), value)
            same(store.load("packs/" + name, offset=10, size=7), value[10:17])
        first, second, third = sorted(packs)[:3]
        store.move("packs/" + first, delete=True)
        raises(ObjectNotFound, store.load, "packs/" + first)
        same([item.name for item in store.list("packs", deleted=True)], [first])
        same(store.load("packs/" + first, deleted=True), packs[first])
        store.move("packs/" + first, undelete=True)
        same(store.load("packs/" + first), packs[first])
        store.move("packs/" + second, delete=True)
        store.delete("packs/" + second, deleted=True)
        raises(ObjectNotFound, store.load, "packs/" + second, deleted=True)
        new = store.defrag(
            [(first, 0, 500), (third, 100, 500)], algorithm="sha256", namespace="packs"
        )
        same(store.load("packs/" + new), packs[first][:500] + packs[third][100:600])
        same(store.hash("packs/" + new), new)
        if hasattr(store, "gather"):
            got = store.gather([(first, 1, 5), (third, -4, 4)], namespace="packs")
            same(got, packs[first][1:6] + packs[third][-4:])
        store.store("moving/abcdef", b"m")
        same(store.find("moving/abcdef"), "moving/ab/cd/abcdef")
        same(store.load("moving/abcdef"), b"m")
        raises(ObjectNotFound, store.delete, "archives/missing")
    with store:  # a new session
        same(len(list(store.list("packs"))), len(packs))
        same(store.load("packs/" + third), packs[third])


@check
def stores():
    store = Store(url=URL, config=CONFIG)
    store.create()
    try:
        story(store)
    finally:
        store.destroy()


@check
def caches():
    for mode in "writethrough", "mirror":
        with tempfile.TemporaryDirectory() as cache:
            config = dict(CONFIG)
            config["packs/"] = {"levels": [1], "cache": mode, "size": 40_000}
            store = Store(url=URL, config=config, cache_url="file://" + cache + "/c")
            store.create()
            try:
                story(store)
                cached = sum(len(files) for _, _, files in os.walk(cache))
                assert cached > 0, f"{mode}: nothing was cached"
            finally:
                store.destroy()


if sys.argv[2:]:
    CHECKS = [function for function in CHECKS if function.__name__ in sys.argv[2:]]
failed = 0
for function in CHECKS:
    try:
        function()
        print(f"ok    {function.__name__}", flush=True)
    except Exception:
        failed += 1
        print(f"WRONG {function.__name__}")
        traceback.print_exc(file=sys.stdout)
        try:
            get_backend(URL).destroy()
        except Exception:
            pass
print(f"borgstore {borgstore.__version__}: {len(CHECKS) - failed} of {len(CHECKS)} held")
sys.exit(failed > 0)
