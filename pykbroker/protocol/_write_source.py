"""Writes the Python source of the writer of one (message, version): the mirror of ``_read_source``."""

from __future__ import annotations

import struct
from struct import Struct as Packer

from pykbroker.protocol import _wire
from pykbroker.protocol._read_source import FIXED
from pykbroker.protocol.schema import Field, Message, Struct


class WriterSource:
    """Collects the lines and the names that they use; :meth:`build` gives both."""

    def __init__(self, message: type[Message], version: int) -> None:
        self.message = message
        self.version = version
        self.flexible = version >= message.flexible_since
        self.lines: list[str] = []
        self.names: dict[str, object] = {
            "put_uvarint": _wire.put_uvarint,
            "put_records": _wire.put_records,
            "pack": struct.pack,
        }
        self._depth = 1
        self._run: list[tuple[str, str]] = []
        self._counter = 0

    def build(self) -> str:
        """The source of ``write(m, out, regions) -> None``."""
        self._struct(self.message, "m", "out")
        self._line("return None")
        return "\n".join(["def write(m, out, regions):", *self.lines])

    # -- structs ----------------------------------------------------------------------------------

    def _struct(self, cls: type[Struct], var: str, out: str) -> None:
        tagged = []
        for field in cls.fields:
            if not field.present(self.version):
                continue
            if field.tagged(self.version):
                tagged.append(field)
            else:
                self._field(field, f"{var}.{field.name}", out)
        if not self.flexible:
            self._flush(out)
        elif not tagged:
            self._run.append(("B", "0"))
            self._flush(out)
        else:
            self._flush(out)
            self._tags(sorted(tagged, key=lambda field: field.tag or 0), var, out)

    def _tags(self, tagged: list[Field], var: str, out: str) -> None:
        """The tagged section: a field is left out when it has its default (KIP-482)."""
        conditions = [f"({self._differs(field, f'{var}.{field.name}')})" for field in tagged]
        count, part = self._fresh("count", "part")
        self._line(f"if {' or '.join(conditions)}:")
        self._depth += 1
        self._line(f"{count} = " + " + ".join(f"bool{condition}" for condition in conditions))
        self._line(f"put_uvarint({out}, {count})")
        for condition, field in zip(conditions, tagged, strict=True):
            self._line(f"if {condition}:")
            self._depth += 1
            self._line(f"{part} = bytearray()")
            self._field(field, f"{var}.{field.name}", part)
            self._flush(part)
            self._line(f"put_uvarint({out}, {field.tag})")
            self._line(f"put_uvarint({out}, len({part}))")
            self._line(f"{out} += {part}")
            self._depth -= 1
        self._depth -= 1
        self._line("else:")
        self._line(f"    {out}.append(0)")

    def _differs(self, field: Field, expression: str) -> str:
        default = field.fresh_default()
        if default is None:
            return f"{expression} is not None"
        if isinstance(default, Struct):
            return f"{expression} is None or " + " or ".join(
                self._differs(inner, f"{expression}.{inner.name}")
                for inner in type(default).fields
                if inner.present(self.version)
            )
        if field.kind == "array":
            return f"{expression} is None or len({expression})"
        return f"{expression} != {default!r}"

    # -- fields -----------------------------------------------------------------------------------

    def _field(self, field: Field, value: str, out: str) -> None:
        nullable = field.can_be_null(self.version)
        if field.kind in FIXED:
            self._run.append((FIXED[field.kind], value))
        elif field.kind == "array":
            self._array(field, value, nullable, out)
        elif field.kind == "struct":
            self._embedded(field, value, nullable, out)
        elif field.kind == "records":
            self._flush(out)
            self._line(f"put_records({out}, regions, {value}, {self.flexible})")
        else:
            self._sized(field.kind, value, nullable, out)

    def _sized(self, kind: str, value: str, nullable: bool, out: str) -> None:
        content, length = self._fresh("s", "n")
        encode = ".encode()" if kind == "string" else ""
        code = "h" if kind == "string" else "i"
        if not nullable:
            self._line(f"{content} = {value}{encode}")
            self._length(f"len({content})", code, out)
            self._line(f"{out} += {content}")
            return
        self._line(f"{content} = {value}")
        self._line(f"if {content} is None: {length} = -1; {content} = b''")
        self._line("else:")
        if encode:
            self._line(f"    {content} = {content}{encode}")
        self._line(f"    {length} = len({content})")
        self._length(length, code, out)
        self._line(f"{out} += {content}")

    def _length(self, length: str, code: str, out: str) -> None:
        if not self.flexible:
            self._run.append((code, length))
            self._flush(out)
            return
        self._flush(out)
        count = self._fresh("k")[0]
        self._line(f"{count} = {length} + 1")
        self._line(f"if {count} < 128: {out}.append({count})")
        self._line(f"else: put_uvarint({out}, {count})")

    def _array(self, field: Field, value: str, nullable: bool, out: str) -> None:
        items, item = self._fresh("items", "item")
        self._line(f"{items} = {value}")
        if nullable:
            self._length(f"(-1 if {items} is None else len({items}))", "i", out)
            self._line(f"if {items} is not None:")
            self._depth += 1
        else:
            self._length(f"len({items})", "i", out)
        if field.element in FIXED and field.element != "uuid":
            self._line(f"{out} += pack(f'>{{len({items})}}{FIXED[field.element]}', *{items})")
        else:
            self._line(f"for {item} in {items}:")
            self._depth += 1
            self._element(field, item, out)
            self._depth -= 1
        self._depth -= nullable

    def _element(self, field: Field, item: str, out: str) -> None:
        if field.struct is not None:
            self._struct(field.struct(), item, out)
        elif field.element == "uuid":
            self._run.append((FIXED["uuid"], item))
            self._flush(out)
        else:
            assert field.element is not None
            self._sized(field.element, item, False, out)
        if not self.lines[-1].strip():
            self._line("pass")

    def _embedded(self, field: Field, value: str, nullable: bool, out: str) -> None:
        assert field.struct is not None
        inner = self._fresh("inner")[0]
        if nullable:
            self._flush(out)
            self._line(f"if {value} is None: {out}.append(255)")
            self._line("else:")
            self._depth += 1
            self._line(f"{out}.append(1)")
        self._line(f"{inner} = {value}")
        self._struct(field.struct(), inner, out)
        self._depth -= nullable

    # -- source -----------------------------------------------------------------------------------

    def _flush(self, out: str) -> None:
        """Write the pending fixed-width fields with one call."""
        if not self._run:
            return
        if self._run == [("B", "0")]:
            self._line(f"{out}.append(0)")
        else:
            packer = Packer(">" + "".join(code for code, _ in self._run))
            name = "pack_" + packer.format[1:].replace("?", "B_")
            self.names[name] = packer.pack
            self._line(f"{out} += {name}({', '.join(value for _, value in self._run)})")
        self._run = []

    def _fresh(self, *hints: str) -> list[str]:
        self._counter += 1
        return [f"{hint}{self._counter}" for hint in hints]

    def _line(self, text: str) -> None:
        self.lines.append("    " * self._depth + text)
