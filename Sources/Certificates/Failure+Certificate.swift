import Console
import TLS

extension CertificateError {
    /// The error as the person meets it; `subject` is the file or the name that it is about.
    func failure(_ subject: String) -> Failure {
        switch self {
        case .unreadable(let path, let code): .errno(code, path)
        case .tooLarge: .data("\(subject): \(self)", "name a PEM or DER file that holds a certificate")
        case .malformed: .data("\(subject): \(self)", "bring a good copy back, or make it again")
        case .noCertificate: .data("\(subject): \(self)", "name the .cert.pem file")
        case .noRequest: .data("\(subject): \(self)", "name the .csr.pem file")
        case .noPrivateKey: .data("\(subject): \(self)", "name the .key.pem file")
        case .encryptedKey: .data("\(subject): \(self)", "take it off with openssl pkey, and keep the file at mode 0600")
        case .keyMismatch: .data("\(subject): \(self)", "put the files that belong together into one directory")
        case .name(let reason): .data(reason, "choose another name")
        case .issuer(let reason): .data(reason, "choose another issuer with --ca")
        case .issuerDates(let reason): .data(reason, "renew it with iotstream cert renew, or choose another issuer with --ca")
        case .failed: .software("\(subject): \(self)", "report it")
        }
    }
}

/// Runs what throws a `CertificateError` and says what it was about.
func about<Result>(_ subject: String, _ body: () throws(CertificateError) -> Result) throws(Failure) -> Result {
    do throws(CertificateError) { return try body() } catch { throw error.failure(subject) }
}

/// The certificates of a file that a person named; `-` is standard input.
func readChain(_ path: String) throws(Failure) -> CertificateChain {
    let bytes = try InputFile.read(path, limit: CredentialFile.limit)
    let name = path == "-" ? "standard input" : path
    do throws(CertificateError) { return try CertificateChain(bytes: bytes) } catch {
        if error == .noCertificate, String(decoding: bytes, as: UTF8.self).contains(text: "PRIVATE KEY-----") {
            throw .data("\(name): a private key, no certificate", "name the .cert.pem file that goes with it")
        }
        throw error.failure(name)
    }
}
