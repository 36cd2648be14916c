use std::io::{self, Write};

use serde_json::ser::Formatter;

/// JSON as a reviewer reads it, and as a diff shows it: every rule is a block, every field of a rule a line,
/// and what is in a field stands on that line.
#[derive(Default)]
pub(super) struct Layout {
    open: Vec<Level>,
}

/// An object or a list that is being written.
struct Level {
    list: bool,
    /// Each value has a line of its own.
    lines: bool,
    filled: bool,
}

impl Layout {
    fn begin<W: ?Sized + Write>(&mut self, writer: &mut W, list: bool) -> io::Result<()> {
        let lines = match self.open.as_slice() {
            [] | [_] => true,
            [_, parent] => parent.list && !list,
            _ => false,
        };
        self.open.push(Level { list, lines, filled: false });
        writer.write_all(if list { b"[" } else { b"{" })
    }

    fn value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        let depth = self.open.len();
        let Some(level) = self.open.last_mut() else { return Ok(()) };
        level.filled = true;
        if !first {
            writer.write_all(b",")?;
        }
        match (level.lines, level.list && first) {
            (true, _) => new_line(writer, depth),
            (false, true) => Ok(()),
            (false, false) => writer.write_all(b" "),
        }
    }

    fn end<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        let Some(Level { list, lines, filled }) = self.open.pop() else { return Ok(()) };
        if lines && filled {
            new_line(writer, self.open.len())?;
        } else if filled && !list {
            writer.write_all(b" ")?;
        }
        writer.write_all(if list { b"]" } else { b"}" })
    }
}

fn new_line<W: ?Sized + Write>(writer: &mut W, depth: usize) -> io::Result<()> {
    writer.write_all(b"\n")?;
    (0..depth).try_for_each(|_| writer.write_all(b"  "))
}

impl Formatter for Layout {
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.begin(writer, true)
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.value(writer, first)
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.end(writer)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.begin(writer, false)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.value(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.end(writer)
    }
}
