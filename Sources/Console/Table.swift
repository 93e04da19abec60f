/// Text in columns.
package enum Table {
    /// The titles and the rows, each column as wide as its widest cell, two spaces between, none at the end of a line.
    package static func lines(_ titles: [String], _ rows: [[String]]) -> [String] {
        let cells = ([titles] + rows).map { $0.map(Printable.oneLine) }
        var widths = [Int](repeating: 0, count: titles.count)
        for row in cells {
            for (column, cell) in row.enumerated() where column < widths.count { widths[column] = max(widths[column], cell.count) }
        }
        return cells.map { row in
            var line = ""
            for (column, cell) in row.enumerated() {
                line += cell
                guard column < row.count - 1, column < widths.count else { continue }
                line += String(repeating: " ", count: max(0, widths[column] - cell.count) + 2)
            }
            while line.last == " " { line.removeLast() }
            return line
        }
    }

    /// The text broken into lines of at most `width` characters at spaces; empty lines part paragraphs, and a line that starts with a
    /// space stands as it is.
    package static func wrap(_ text: String, width: Int) -> [String] {
        var result: [String] = []
        var current = ""
        func flush() {
            if !current.isEmpty { result.append(current) }
            current = ""
        }
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
            if line.isEmpty || line.hasPrefix(" ") {
                flush()
                result.append(String(line))
                continue
            }
            for word in line.split(separator: " ") {
                if !current.isEmpty, current.count + 1 + word.count > width { flush() }
                current += current.isEmpty ? String(word) : " \(word)"
            }
        }
        flush()
        return result
    }
}
