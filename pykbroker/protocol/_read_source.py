"""Writes the Python source of the reader of one (message, version).

The whole message becomes one function with nested loops: no calls between structs, consecutive
fixed-width fields (and the length that follows them) in one ``unpack_from``.  Lengths are checked
against what is left before anything is allocated; what escapes the checks (reading behind the end)
surfaces as IndexError or struct.error inside the function and leaves it as ProtocolError.
"""

from __future__ import annotations

import struct
from struct import Struct as Packer

from pykbroker.protocol import _wire
from pykbroker.protocol.errors import ProtocolError
from pykbroker.protocol.schema import Field, Message, Struct

FIXED = {
    "int8": "b", "int16": "h", "uint16": "H", "int32": "i", "int64": "q", "float64": "d", "bool": "?",
    "uuid": "16s",
}  # fmt: skip
"""Wire types of fixed width, as ``struct`` formats."""


def fixed_size(kind: str) -> int:
    """Bytes of a fixed-width wire type."""
    return Packer(">" + FIXED[kind]).size


class ReaderSource:
    """Collects the lines and the names that they use; :meth:`build` gives both."""

    def __init__(self, message: type[Message], version: int) -> None:
        self.message = message
        self.version = version
        self.flexible = version >= message.flexible_since
        self.lines: list[str] = []
        self.names: dict[str, object] = {
            "ProtocolError": ProtocolError,
            "struct_error": struct.error,
            "new": object.__new__,
            "short": _wire.short,
            "null": _wire.null,
            "uvarint": _wire.uvarint,
            "read_uvarint": _wire.read_uvarint,
            "skip_tags": _wire.skip_tags,
        }
        self._depth = 1
        self._run: list[tuple[str, str]] = []
        self._counter = 0

    def build(self) -> str:
        """The source of ``read(buf, pos) -> (message, position behind it)``."""
        self._line("try:")
        self._depth += 1
        self._struct(self.message, "m")
        self._line("return m, pos")
        self._depth -= 1
        self._line("except (IndexError, struct_error) as error:")
        text = f"{self.message.__name__} v{self.version} ends early"
        self._line(f"    raise ProtocolError({text!r}) from error")
        head = ["def read(buf, pos):", "    end = len(buf)", f"    budget = {_wire.MAX_ELEMENTS}"]
        return "\n".join(head + self.lines)

    # -- structs ----------------------------------------------------------------------------------

    def _struct(self, cls: type[Struct], var: str) -> None:
        self._line(f"{var} = new({self._name(cls.__name__, cls)})")
        tagged = []
        for field in cls.fields:
            if not field.present(self.version):
                self._default(field, f"{var}.{field.name}")
            elif field.tagged(self.version):
                self._default(field, f"{var}.{field.name}")
                tagged.append(field)
            else:
                self._field(field, f"{var}.{field.name}")
        self._flush()
        if self.flexible:
            self._tags(tagged, var)

    def _default(self, field: Field, target: str) -> None:
        value = field.fresh_default()
        if isinstance(value, Struct):
            self._line(f"{target} = {self._name(type(value).__name__, type(value))}()")
        else:
            self._line(f"{target} = {value!r}")

    def _tags(self, tagged: list[Field], var: str) -> None:
        self._line("if buf[pos]:")
        self._depth += 1
        if tagged:
            self._known_tags(tagged, var)
        else:
            self._line("pos = skip_tags(buf, pos)")
        self._depth -= 1
        self._line("else:")
        self._line("    pos += 1")

    def _known_tags(self, tagged: list[Field], var: str) -> None:
        count, tag, size, stop = self._fresh("count", "tag", "size", "stop")
        self._line(f"{count}, pos = read_uvarint(buf, pos)")
        self._line(f"for _ in range({count}):")
        self._depth += 1
        self._line(f"{tag}, pos = read_uvarint(buf, pos)")
        self._line(f"{size}, pos = read_uvarint(buf, pos)")
        self._line(f"{stop} = pos + {size}")
        self._line(f"if {stop} > end: short('a tagged field')")
        for position, field in enumerate(sorted(tagged, key=lambda f: f.tag or 0)):
            self._line(f"{'elif' if position else 'if'} {tag} == {field.tag}:")
            self._depth += 1
            self._field(field, f"{var}.{field.name}")
            self._flush()
            text = f"tagged field {field.name} has another length than stated"
            self._line(f"if pos != {stop}: raise ProtocolError({text!r})")
            self._depth -= 1
        self._line("else:")
        self._line(f"    pos = {stop}")
        self._depth -= 1

    # -- fields -----------------------------------------------------------------------------------

    def _field(self, field: Field, target: str) -> None:
        if field.kind in FIXED:
            self._run.append((FIXED[field.kind], target))
        elif field.kind == "array":
            self._array(field, target)
        elif field.kind == "struct":
            self._embedded(field, target)
        else:
            self._sized(field.kind, field.name, field.can_be_null(self.version), target)

    def _sized(self, kind: str, name: str, nullable: bool, target: str) -> None:
        """A string, bytes or record bytes: length, then content."""
        length, stop = self._fresh("n", "stop")
        self._length(length, "h" if kind == "string" else "i")
        self._line(f"if {length} < 0: " + (f"{target} = None" if nullable else f"null({name!r})"))
        self._line("else:")
        self._depth += 1
        if kind == "string" and self.flexible:
            text = f"string {name} is longer than {_wire.MAX_STRING} bytes"
            self._line(f"if {length} > {_wire.MAX_STRING}: raise ProtocolError({text!r})")
        self._line(f"{stop} = pos + {length}")
        self._line(f"if {stop} > end: short({name!r})")
        # Malformed UTF-8 is replaced, as Java does it: Kafka serves a client with a Latin-1 client id.
        content = {
            "string": f"str(buf[pos:{stop}], 'utf-8', 'replace')",
            "bytes": f"bytes(buf[pos:{stop}])",
            "records": f"buf[pos:{stop}]",
        }[kind]
        self._line(f"{target} = {content}")
        self._line(f"pos = {stop}")
        self._depth -= 1

    def _length(self, var: str, fixed: str) -> None:
        """A length or count: null is any negative number."""
        if not self.flexible:
            self._run.append((fixed, var))
            self._flush()
            return
        self._flush()
        self._line(f"{var} = buf[pos] - 1")
        self._line("pos += 1")
        self._line(f"if {var} > 126:")
        self._line(f"    {var}, pos = uvarint(buf, pos, {var} + 1)")
        self._line(f"    {var} -= 1")

    def _array(self, field: Field, target: str) -> None:
        count = self._fresh("n")[0]
        self._length(count, "i")
        nullable = field.can_be_null(self.version)
        self._line(f"if {count} < 0: " + (f"{target} = None" if nullable else f"null({field.name!r})"))
        self._line("else:")
        self._depth += 1
        smallest = self._smallest_element(field)
        self._line(f"if {count} * {smallest} > end - pos: short({field.name!r})")
        self._line(f"budget -= {count}")
        self._line("if budget < 0: raise ProtocolError('too many array elements')")
        if field.element in FIXED:
            self._fixed_elements(FIXED[field.element], smallest, count, target)
        else:
            self._elements(field, count, target)
        self._depth -= 1

    def _fixed_elements(self, code: str, size: int, count: str, target: str) -> None:
        unpack = self._name("unpack_from", struct.unpack_from)
        if code == "16s":
            self._line(f"{target} = [bytes(buf[p:p + 16]) for p in range(pos, pos + 16 * {count}, 16)]")
        else:
            self._line(f"{target} = list({unpack}(f'>{{{count}}}{code}', buf, pos))")
        self._line(f"pos += {count} * {size}")

    def _elements(self, field: Field, count: str, target: str) -> None:
        items, item = self._fresh("items", "item")
        self._line(f"{target} = {items} = []")
        self._line(f"for _ in range({count}):")
        self._depth += 1
        if field.struct is not None:
            self._struct(field.struct(), item)
        else:
            assert field.element is not None
            self._sized(field.element, field.name, False, item)
        self._line(f"{items}.append({item})")
        self._depth -= 1

    def _embedded(self, field: Field, target: str) -> None:
        assert field.struct is not None
        inner = self._fresh("inner")[0]
        self._flush()
        if not field.can_be_null(self.version):
            self._struct(field.struct(), inner)
            self._line(f"{target} = {inner}")
            return
        self._line("pos += 1")
        self._line("if buf[pos - 1] > 127:")
        self._line(f"    {target} = None")
        self._line("else:")
        self._depth += 1
        self._struct(field.struct(), inner)
        self._line(f"{target} = {inner}")
        self._depth -= 1

    # -- sizes ------------------------------------------------------------------------------------

    def _smallest_element(self, field: Field) -> int:
        if field.struct is not None:
            return max(1, self._smallest_struct(field.struct()))
        assert field.element is not None
        return self._smallest(field.element)

    def _smallest_struct(self, cls: type[Struct]) -> int:
        fields = [f for f in cls.fields if f.present(self.version) and not f.tagged(self.version)]
        size = sum(
            self._smallest_struct(f.struct()) if f.kind == "struct" and f.struct else self._smallest(f.kind)
            for f in fields
        )
        return size + self.flexible

    def _smallest(self, kind: str) -> int:
        if kind in FIXED:
            return fixed_size(kind)
        if self.flexible:
            return 1
        return 2 if kind == "string" else 4

    # -- source -----------------------------------------------------------------------------------

    def _flush(self) -> None:
        """Read the pending fixed-width fields with one call."""
        if not self._run:
            return
        packer = Packer(">" + "".join(code for code, _ in self._run))
        unpack = self._name("unpack_" + packer.format[1:], packer.unpack_from)
        targets = ", ".join(target for _, target in self._run)
        self._line(f"{targets}, = {unpack}(buf, pos)")
        self._line(f"pos += {packer.size}")
        self._run = []

    def _name(self, hint: str, value: object) -> str:
        name = hint.replace("?", "B_")
        while self.names.setdefault(name, value) is not value and self.names[name] != value:
            name += "_"
        return name

    def _fresh(self, *hints: str) -> list[str]:
        self._counter += 1
        return [f"{hint}{self._counter}" for hint in hints]

    def _line(self, text: str) -> None:
        self.lines.append("    " * self._depth + text)
