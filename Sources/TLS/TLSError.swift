import COpenSSL

/// What OpenSSL had to say, never with key material.
public enum TLSError: Error, Equatable, CustomStringConvertible {
    /// A file that could not be used: its path and why.
    case file(path: String, reason: String)
    /// A session or handshake that failed, in OpenSSL's words.
    case failed(String)
    /// The peer's certificate was refused, in the words of X509_V_ERR.
    case certificateRefused(String)
    /// The peer broke the transport off without close_notify.
    case truncated

    /// One line, without codes.
    public var description: String {
        switch self {
        case .file(let path, let reason): "\(path): \(reason)"
        case .failed(let text): text
        case .certificateRefused(let reason): "certificate refused: \(reason)"
        case .truncated: "connection cut without a TLS goodbye"
        }
    }

    /// Takes and empties the thread's error queue; the text of its first entry without codes and file names.
    package static func takeReason() -> String {
        let code = ERR_get_error()
        ERR_clear_error()
        guard code != 0, let reason = ERR_reason_error_string(code) else { return "TLS failure" }
        return String(cString: reason)
    }
}
