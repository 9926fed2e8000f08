"""The machine code of ``native.is_unchanged``, as LLVM IR."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["WORDS", "module"]

# Words of a watch: for each check its number of items, then the addresses of its columns.
WORDS = {
    name: index
    for index, name in enumerate(
        [
            *("lists", "list_objects", "list_sizes", "list_items"),
            *("states", "state_items"),
            *("slots", "slot_dicts", "slot_keys", "slot_items", "slot_objects", "slot_facts"),
            *("params", "param_items", "param_facts"),
            *("shorts", "short_pointers", "short_values"),
            *("longs", "long_pointers", "long_values"),
            *("shards", "shard_pointers", "shard_values"),
            *("absent", "absent_places"),
            *("grads", "grad_places", "grad_pointers"),
        ]
    )
}

# What `is_unchanged` calls, in order: a check, the word of its number of items, and its other arguments. First the
# gradients, which torch's guards have just read, and last the parameters, whose versions are written next.
_CALLS = (
    ("grads", "grads", "%grads grad_places grad_pointers %none"),
    ("absent", "absent", "%grads absent_places %none"),
    ("lists", "lists", "list_objects list_sizes list_items"),
    ("items", "states", "%states state_items"),
    ("shorts", "shorts", "short_pointers short_values"),
    ("longs", "longs", "long_pointers long_values"),
    ("longs", "shards", "shard_pointers shard_values"),
    ("slots", "slots", "slot_dicts slot_keys slot_items slot_objects slot_facts"),
    ("params", "params", "param_items param_facts"),
)

# A check is 1 where its body finds %ok for every i below %n, and 0 at the first that is not. The body has %NAME.v, the
# item of each column with a type, and %handle, torch's handle of the tensor object %objects.v.
_CHECK = """
define internal i64 @{name}({arguments}, i64 %n) {{
entry:
  %word = alloca i64
  %any = icmp sgt i64 %n, 0
  br i1 %any, label %loop, label %good
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %more ]
{items}{body}
  br i1 %ok, label %more, label %bad
more:
  %next = add i64 %i, 1
  %again = icmp slt i64 %next, %n
  br i1 %again, label %loop, label %good
good:
  ret i64 1
bad:
  ret i64 0
}}
"""
_ITEM = """\
  %{column}.p = getelementptr {kind}, ptr %{column}, i64 %i
  %{column}.v = load {kind}, ptr %{column}.p
"""
_HANDLE = "  %handle = getelementptr i8, ptr %objects.v, i64 {offset}\n"
# Tensors lie scattered: fetching those further on while this one is looked at hides most of the wait for memory.
_AHEAD = """\
  %ahead = add i64 %i, 12
  %ahead.in = icmp slt i64 %ahead, %n
  %ahead.safe = select i1 %ahead.in, i64 %ahead, i64 %i
  %ahead.p = getelementptr ptr, ptr %objects, i64 %ahead.safe
  %ahead.v = load ptr, ptr %ahead.p
  %ahead.handle = getelementptr i8, ptr %ahead.v, i64 {offset}
  %ahead.tensor = load ptr, ptr %ahead.handle
  call void @llvm.prefetch.p0(ptr %ahead.tensor, i32 0, i32 3, i32 1)
  %ahead.more = getelementptr i8, ptr %ahead.tensor, i64 64
  call void @llvm.prefetch.p0(ptr %ahead.more, i32 0, i32 3, i32 1)
  %ahead.rest = getelementptr i8, ptr %ahead.tensor, i64 128
  call void @llvm.prefetch.p0(ptr %ahead.rest, i32 0, i32 3, i32 1)
"""

# name: columns (with the type of their items, if the body wants them) and body.
_CHECKS = {
    "items": (
        "list items:ptr",
        """\
  %found = call ptr @PyList_GetItem(ptr %list, i64 %i)
  %ok = icmp eq ptr %found, %items.v""",
    ),
    "lists": (
        "objects:ptr sizes:i64 items:ptr",
        """\
  %size = call i64 @PyList_Size(ptr %objects.v)
  %fits = icmp eq i64 %size, %sizes.v
  %safe = select i1 %fits, i64 %size, i64 0
  %all = call i64 @items(ptr %objects.v, ptr %items.v, i64 %safe)
  %same = icmp ne i64 %all, 0
  %ok = and i1 %fits, %same""",
    ),
    "slots": (
        "dicts:ptr keys:ptr there:ptr objects:ptr facts",
        """\
  %found = call ptr @PyDict_GetItemWithError(ptr %dicts.v, ptr %keys.v)
  %same = icmp eq ptr %found, %there.v
  br i1 %same, label %read, label %bad
read:
  %own = getelementptr [4 x i64], ptr %facts, i64 %i
  %ok = call i1 @is_as_it_was(ptr %handle, ptr %own)""",
    ),
    "params": (
        "objects:ptr facts",
        """\
  %own = getelementptr [4 x i64], ptr %facts, i64 %i
  %ok = call i1 @is_as_it_was(ptr %handle, ptr %own)""",
    ),
    "words": ("left:i64 right:i64", "  %ok = icmp eq i64 %left.v, %right.v"),
    "shorts": (
        "pointers:ptr values:i32",
        """\
  %found = load i32, ptr %pointers.v
  %ok = icmp eq i32 %found, %values.v""",
    ),
    "longs": (
        "pointers:ptr values:i64",
        """\
  %found = load i64, ptr %pointers.v
  %ok = icmp eq i64 %found, %values.v""",
    ),
    "absent": (
        "grads places:i64 none",
        """\
  %found = call ptr @PyList_GetItem(ptr %grads, i64 %places.v)
  %ok = icmp eq ptr %found, %none""",
    ),
    "grads": (
        "list places:i64 pointers none",
        """\
  %objects.v = call ptr @PyList_GetItem(ptr %list, i64 %places.v)
  %there = icmp ne ptr %objects.v, %none
  br i1 %there, label %read, label %bad
read:
{handle}\
  %to = getelementptr i64, ptr %pointers, i64 %i
  %failed = call i32 @aoti_torch_get_data_ptr(ptr %handle, ptr %to)
  %ok = icmp eq i32 %failed, 0""",
    ),
}


# Whether a tensor lies where it did, and has the type and the axes that it had. Its facts: where it lies, its type,
# the number of its axes, and where the sizes of all axes are, and after them the strides.
_IS_AS_IT_WAS = """
define internal i1 @is_as_it_was(ptr %handle, ptr %facts) {
entry:
  %word = alloca i64
  %data.failed = call i32 @aoti_torch_get_data_ptr(ptr %handle, ptr %word)
  %data = load i64, ptr %word
  %pointer = load i64, ptr %facts
  %data.same = icmp eq i64 %data, %pointer
  %data.found = icmp eq i32 %data.failed, 0
  %data.ok = and i1 %data.found, %data.same
  %dtype.p = getelementptr i64, ptr %facts, i64 1
  %dtype.v = load i64, ptr %dtype.p
  %dims.p = getelementptr i64, ptr %facts, i64 2
  %dims.v = load i64, ptr %dims.p
  %dtype.failed = call i32 @aoti_torch_get_dtype(ptr %handle, ptr %word)
  %dtype = load i32, ptr %word
  %dtype.wide = zext i32 %dtype to i64
  %dtype.same = icmp eq i64 %dtype.wide, %dtype.v
  %dim.failed = call i32 @aoti_torch_get_dim(ptr %handle, ptr %word)
  %dim = load i64, ptr %word
  %dim.same = icmp eq i64 %dim, %dims.v
  %kind.same = and i1 %dtype.same, %dim.same
  %head = and i1 %data.ok, %kind.same
  %has.axes = icmp sgt i64 %dim, 0
  %more = and i1 %head, %has.axes
  br i1 %more, label %compare, label %told
told:
  ret i1 %head
compare:
  %metas.p = getelementptr i64, ptr %facts, i64 3
  %metas = load ptr, ptr %metas.p
  %size.failed = call i32 @aoti_torch_get_sizes(ptr %handle, ptr %word)
  %sizes = load ptr, ptr %word
  %sizes.same = call i64 @words(ptr %sizes, ptr %metas, i64 %dim)
  %stride.failed = call i32 @aoti_torch_get_strides(ptr %handle, ptr %word)
  %strides = load ptr, ptr %word
  %rest = getelementptr i64, ptr %metas, i64 %dim
  %strides.same = call i64 @words(ptr %strides, ptr %rest, i64 %dim)
  %axes = and i64 %sizes.same, %strides.same
  %ok = icmp ne i64 %axes, 0
  ret i1 %ok
}
"""


def module(offset: int, functions: Mapping[str, int]) -> str:
    """Return the module that defines ``is_unchanged``.

    Args:
        offset: where a tensor's Python object keeps its handle, in bytes.
        functions: the addresses of the functions called, by name.
    """
    checks = [_check(name, columns, body, offset) for name, (columns, body) in _CHECKS.items()]
    text = "".join(["declare void @llvm.prefetch.p0(ptr, i32, i32, i32)\n", *checks, _IS_AS_IT_WAS, _look()])
    for name, address in functions.items():
        text = text.replace(f"@{name}(", f"inttoptr (i64 {address} to ptr)(")
    return text


def _check(name: str, columns: str, body: str, offset: int) -> str:
    pairs = [column.partition(":") for column in columns.split()]
    handle = _HANDLE.format(offset=offset)
    items = "".join(_ITEM.format(column=column, kind=kind) for column, _, kind in pairs if kind)
    if "%objects.v" in items and name != "lists":
        items += handle + _AHEAD.format(offset=offset)
    arguments = ", ".join(f"ptr %{column}" for column, _, _ in pairs)
    return _CHECK.format(name=name, arguments=arguments, items=items, body=body.replace("{handle}", handle))


def _word(name: str, kind: str, register: str) -> str:
    """Load a word of the check."""
    return f"""\
  %{register}.p = getelementptr i64, ptr %watch, i64 {WORDS[name]}
  %{register}.v = load {kind}, ptr %{register}.p"""


def _look() -> str:
    lines = ["\ndefine i64 @is_unchanged(ptr %watch, ptr %states, ptr %grads, ptr %none) {", "check0:"]
    for k, (check, count, arguments) in enumerate(_CALLS):
        names = arguments.split()
        lines += [_word(name, "ptr", f"{name}{k}") for name in names if not name.startswith("%")]
        values = [f"ptr {name if name.startswith('%') else f'%{name}{k}.v'}" for name in names]
        lines += [
            _word(count, "i64", f"n{k}"),
            f"  %r{k} = call i64 @{check}({', '.join(values)}, i64 %n{k}.v)",
            f"  %ok{k} = icmp ne i64 %r{k}, 0",
            f"  br i1 %ok{k}, label %check{k + 1}, label %bad",
            f"check{k + 1}:",
        ]
    return "\n".join([*lines, "  ret i64 1", "bad:", "  ret i64 0", "}", ""])
