"""The declaration language for Kafka messages.

A message is declared once, as a superset of all its versions (source: the protocol guide and the
message definitions of Apache Kafka 4.3.1)::

    class ProduceRequest(Message, key=0, versions=(3, 13), flexible=9):
        transactional_id: str | None = string(since=3, nullable=3)
        acks: int = int16()
        topic_data: list[TopicProduceData] = array(lambda: TopicProduceData)

Every field takes ``since`` and ``until`` (first and last version that carries it, inclusive),
``default`` (what a reader sees in versions without it), ``nullable`` (first version that may carry
null) and ``tag`` with ``tag_since`` (a tagged field, KIP-482).  A handler therefore sees one type
for all versions.  ``pykbroker.protocol.codec`` compiles (message, version) into a reader and a
writer when they are first used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast, dataclass_transform

S = TypeVar("S", bound="Struct")

NO_END = 32767
"""``until`` of a field that no version has dropped."""

ZERO_UUID = bytes(16)
"""The topic id that means "no id" (KIP-516)."""


class FileRegion:
    """A span of an open file that stands in for record bytes in an answer.

    ``fd`` is a readable descriptor, ``position`` and ``size`` are bytes.  ``owner`` keeps the
    descriptor open for as long as the region is referenced.
    """

    __slots__ = ("fd", "owner", "position", "size")

    def __init__(self, fd: int, position: int, size: int, owner: object = None) -> None:
        self.fd = fd
        self.position = position
        self.size = size
        self.owner = owner

    def __len__(self) -> int:
        return self.size

    def __repr__(self) -> str:
        return f"FileRegion(fd={self.fd}, position={self.position}, size={self.size})"


Records = bytes | bytearray | memoryview | FileRegion | list[bytes | memoryview | FileRegion]
"""Record bytes: a view of what came in a request; any of these, or a list of them, in an answer."""


@dataclass(slots=True, kw_only=True, eq=False)
class Field:
    """One declared field; ``kind`` is the wire type, ``struct`` the element of a struct or array.

    Not changed after its class was made.  (Not frozen, since a frozen dataclass takes three times as
    long to make and the declarations are made at every start.)
    """

    name: str = ""
    kind: str
    since: int = 0
    until: int = NO_END
    nullable: int | None = None
    tag: int | None = None
    tag_since: int | None = None
    default: Any = None  # Any: the default of each wire type has its own Python type
    struct: Callable[[], type[Struct]] | None = None
    element: str | None = None
    """Wire type of an array's elements when they are not structs."""

    def present(self, version: int) -> bool:
        """Whether ``version`` carries this field, tagged or not."""
        return self.since <= version <= self.until

    def tagged(self, version: int) -> bool:
        """Whether ``version`` carries this field in the tagged section."""
        return self.tag is not None and self.tag_since is not None and version >= self.tag_since

    def can_be_null(self, version: int) -> bool:
        """Whether null is a legal value in ``version``."""
        return self.nullable is not None and version >= self.nullable

    def fresh_default(self) -> Any:
        """The default value; a new list or struct each time, since those are mutable."""
        if self.kind == "array":
            return [] if self.default is not None else None
        if self.kind == "struct":
            assert self.struct is not None
            return None if self.default is None else self.struct()()
        return self.default


def _declare(kind: str) -> Callable[..., Any]:
    def declare(**options: Any) -> Any:
        options.setdefault("default", _DEFAULTS[kind])
        return Field(kind=kind, **_with_tag_since(options))

    declare.__name__ = declare.__qualname__ = kind
    declare.__doc__ = f"Declare a field of wire type {kind}."
    return declare


def _with_tag_since(options: dict[str, Any]) -> dict[str, Any]:
    if options.get("tag") is not None:
        options.setdefault("tag_since", options.get("since", 0))
    return options


_DEFAULTS: dict[str, object] = {
    "int8": 0, "int16": 0, "uint16": 0, "int32": 0, "int64": 0, "float64": 0.0, "bool": False,
    "string": "", "bytes": b"", "records": None, "uuid": ZERO_UUID,
}  # fmt: skip

int8 = _declare("int8")
int16 = _declare("int16")
uint16 = _declare("uint16")
int32 = _declare("int32")
int64 = _declare("int64")
float64 = _declare("float64")
boolean = _declare("bool")
string = _declare("string")
bytes_ = _declare("bytes")
record_bytes = _declare("records")
uuid = _declare("uuid")


def array(element: Callable[[], type[Struct]] | str, **options: Any) -> Any:
    """Declare an array of structs (``lambda: Struct``) or of a wire type (``"int32"``).

    The default is an empty list; ``default=None`` makes it null.
    """
    options.setdefault("default", ())
    if isinstance(element, str):
        return Field(kind="array", element=element, **_with_tag_since(options))
    return Field(kind="array", struct=element, **_with_tag_since(options))


def struct(element: Callable[[], type[Struct]], **options: Any) -> Any:
    """Declare an embedded struct; ``default=None`` makes null the default."""
    options.setdefault("default", ())
    return Field(kind="struct", struct=element, **_with_tag_since(options))


# The declaring functions are not named as field specifiers: a type checker would then ask for every
# field that is declared without ``default=``; as plain values they count as defaults, which all have.
@dataclass_transform(kw_only_default=True, eq_default=True)
class StructMeta(type):
    """Turns declared fields into slots and keeps their declarations in ``fields``."""

    def __new__(
        mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any
    ) -> StructMeta:
        declared = {key: value for key, value in namespace.items() if isinstance(value, Field)}
        for key, field in declared.items():
            field.name = key
            del namespace[key]
        namespace.setdefault("__slots__", tuple(declared))
        namespace.setdefault("__init__", _first_init)
        cls = super().__new__(mcs, name, bases, namespace, **options)
        cls.fields = tuple(declared.values())
        return cls

    fields: tuple[Field, ...]


def _first_init(self: Struct, **values: Any) -> None:
    """Stands in until the first instance is made; then the class gets an ``__init__`` of its own."""
    cls = type(self)
    cls.__init__ = _compile_init(cls)  # type: ignore[method-assign]  # it takes the place of this one
    cls.__init__(self, **values)


def _compile_init(cls: type[Struct]) -> Callable[..., None]:
    """An ``__init__`` with a keyword for each field: three times as fast as a loop over the fields."""
    names: dict[str, Any] = {"_absent": object()}
    parameters, body = [], []
    for field in cls.fields:
        value = field.fresh_default()
        made = "[]" if isinstance(value, list) else f"_make_{field.name}()" if field.kind == "struct" else ""
        if made and value is not None:
            names[f"_make_{field.name}"] = type(value)
            parameters.append(f"{field.name}=_absent")
            body.append(f"self.{field.name} = {made} if {field.name} is _absent else {field.name}")
        else:
            parameters.append(f"{field.name}={value!r}")
            body.append(f"self.{field.name} = {field.name}")
    head = ", ".join(["self", "*", *parameters] if parameters else ["self"])
    exec(f"def __init__({head}):\n " + "\n ".join(body or ["pass"]), names)
    names["__init__"].__qualname__ = f"{cls.__qualname__}.__init__"
    return cast("Callable[..., None]", names["__init__"])


class Struct(metaclass=StructMeta):
    """A part of a message: declared fields, keyword-only construction, equality by value."""

    if TYPE_CHECKING:
        fields: ClassVar[tuple[Field, ...]]

        def __init__(self, **values: Any) -> None: ...

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, f.name) == getattr(other, f.name) for f in type(self).fields)

    __hash__ = None  # type: ignore[assignment]  # mutable values compared by content

    def __repr__(self) -> str:
        inner = ", ".join(f"{f.name}={getattr(self, f.name)!r}" for f in type(self).fields)
        return f"{type(self).__name__}({inner})"


class Message(Struct):
    """A whole request, response or stored record body, with its key and versions."""

    __slots__ = ()
    message_key: ClassVar[int] = -1
    message_versions: ClassVar[tuple[int, int]] = (0, 0)
    flexible_since: ClassVar[int] = NO_END

    def __init_subclass__(
        cls, key: int = -1, versions: tuple[int, int] = (0, 0), flexible: int = NO_END
    ) -> None:
        cls.message_key, cls.message_versions, cls.flexible_since = key, versions, flexible
