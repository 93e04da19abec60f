/// One line of `authorized_services`: `SHA256:… [comment]`, or `cert-authority FILE [CN]`.
package enum AuthorizedLine: Equatable, Sendable {
    /// Why a line is none.
    package struct Malformed: Error, Equatable, Sendable { package let reason: String }

    case key(Fingerprint, comment: String)
    /// Certificates that lead to one in the file, all of them or the one with this common name.
    case authority(path: String, commonName: String?)

    /// Nil for an empty line and for a comment, which begins with `#`.
    package init?(parsing line: String) throws(Malformed) {
        let two = line.words(2)
        guard let first = two.first, !first.isComment else { return nil }
        if String(first).isSame(as: "cert-authority") {
            let words = line.words(3)
            guard words.count > 1 else { throw Malformed(reason: "cert-authority wants a file") }
            self = .authority(path: String(words[1]), commonName: words.count > 2 ? String(words[2]) : nil)
            return
        }
        guard let fingerprint = Fingerprint(first) else {
            throw Malformed(reason: "a line is SHA256:… [comment] or cert-authority FILE [CN]")
        }
        self = .key(fingerprint, comment: two.count > 1 ? String(two[1]) : "")
    }
}
