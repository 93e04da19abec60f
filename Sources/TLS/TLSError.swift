import COpenSSL
import LinuxIO

/// Why TLS failed; never with key material.
public enum TLSError: Error, Equatable, CustomStringConvertible {
    /// A file that could not be used: its path and why.
    case file(path: String, reason: String)
    /// A session or handshake that failed, in words.
    case failed(String)
    /// The server's certificate was refused, and why.
    case certificateRefused(String)
    /// The peer gave up with an alert, in the words of RFC 8446 section 6.2.
    case alert(String)
    /// The socket failed.
    case system(SystemError)
    /// The peer ended the connection before the handshake was over.
    case cutInHandshake
    /// The peer broke the transport off without close_notify.
    case truncated

    /// One line, without codes.
    public var description: String {
        switch self {
        case .file(let path, let reason): "\(path): \(reason)"
        case .failed(let text): text
        case .certificateRefused(let reason): "certificate refused: \(reason)"
        case .alert(let words): "peer refused: \(words)"
        case .system(let error): error.reason
        case .cutInHandshake: "connection ended during the TLS handshake"
        case .truncated: "connection cut without a TLS goodbye"
        }
    }

    /// Takes and empties the thread's error queue: its first entry in words.
    static func take() -> TLSError {
        let code = ERR_get_error()
        ERR_clear_error()
        guard cssl_err_is_alert(code) == 1 else { return .failed(words(code)) }
        let alert = cssl_err_alert(code)
        if alert == SSL_AD_PROTOCOL_VERSION { return .alert("protocol version (TLS 1.2 or 1.3 is needed)") }
        return .alert(SSL_alert_desc_string_long(alert).map { String(cString: $0) } ?? "alert \(alert)")
    }

    /// Takes and empties the thread's error queue; the text of its first entry without codes and file names.
    package static func takeReason() -> String { take().description }

    private static func words(_ code: UInt) -> String {
        guard code != 0 else { return "TLS failure" }
        if cssl_err_lib(code) == ERR_LIB_SSL {
            switch cssl_err_reason(code) {
            case SSL_R_HTTP_REQUEST, SSL_R_HTTPS_PROXY_REQUEST: return "peer speaks HTTP without TLS"
            case SSL_R_WRONG_VERSION_NUMBER, SSL_R_RECORD_TOO_SMALL: return "peer does not speak TLS"
            case SSL_R_UNSUPPORTED_PROTOCOL, SSL_R_VERSION_TOO_LOW, SSL_R_WRONG_SSL_VERSION:
                return "no common TLS version: 1.2 or 1.3 is needed"
            case SSL_R_NO_SHARED_CIPHER: return "no common cipher suite"
            case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM: return "no common signature algorithm"
            case SSL_R_EXCESSIVE_MESSAGE_SIZE: return "a TLS message is too long"
            default: break
            }
        }
        return ERR_reason_error_string(code).map { String(cString: $0) } ?? "TLS failure"
    }
}
