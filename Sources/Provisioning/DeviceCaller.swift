import Audit
import Enrollments
import LinuxIO
import TLS
import Wire

/// A device that asks the service for something, and what it says of itself.
struct DeviceCaller: Sendable {
    let scope, registrationID, apiVersion: String
    /// The CONNECT's password or the field `Authorization`.
    let token: String?
    let from: String
    let transport: String
}

/// An answer to a device.
struct DeviceAnswer: Sendable {
    let status: Int
    let body: JSONValue
    /// Seconds.
    var retryAfter: Int?
    /// Whom to ask for how it goes on.
    var operation: String?

    init(_ status: Int, _ body: JSONValue, retryAfter: Int? = nil, operation: String? = nil) {
        self.status = status
        self.body = body
        self.retryAfter = retryAfter
        self.operation = operation
    }

    init(_ error: EnrollmentError) { self.init(error.status, error.json, retryAfter: error.status == 429 ? 5 : nil) }
}

/// What devices can do, whatever way they have come (dps 2.4, 3).
extension ProvisioningCore {
    /// Seconds after which a device is to ask again.
    private static let patience = 3

    /// Finds the enrollment that lets the device in; says so in the audit log.
    private func authenticate(_ caller: DeviceCaller, _ certificates: ClientCertificates) throws(EnrollmentError) -> Admission {
        do throws(EnrollmentRefusal) {
            return try enrollments.authenticate(
                registrationID: caller.registrationID, token: caller.token, certificates: certificates, scope: caller.scope,
                now: Clock.unixSeconds)
        } catch {
            note(.authentication, "register", .refused(error.code, error.words), caller)
            throw error.error
        }
    }

    func note(_ kind: AuditEvent.Kind, _ action: String, _ outcome: AuditEvent.Outcome, _ caller: DeviceCaller) {
        audit.record(
            AuditEvent(
                kind, action, outcome, actor: "device:\(caller.registrationID)", from: caller.from, protocol: caller.transport))
    }

    /// Begins a registration, or finds the one that is under way; `answer` is called on any thread, once.
    func register(
        _ caller: DeviceCaller, _ certificates: ClientCertificates, body: [UInt8], _ answer: @escaping @Sendable (DeviceAnswer) -> Void
    ) {
        do throws(EnrollmentError) {
            let request = try DeviceRegistration(body, of: caller)
            guard request.csr == nil else { throw .invalid("this service issues no certificates") }
            let admission = try authenticate(caller, certificates)
            guard mayBegin() else { throw .refused(code: 429001, "too many registrations at once") }
            enrollments.submit(.begin(admission, payload: request.payload, apiVersion: caller.apiVersion), to: writer) { [self] result in
                switch result {
                case .failure(let error): answer(DeviceAnswer(error))
                case .success(let outcome):
                    guard let operation = outcome.operation else { return answer(DeviceAnswer(.invalid("no operation"))) }
                    note(.registration, "begin", .ok, caller)
                    desk.take(operation)
                    // Whatever has become of it already is told to who asks: some clients know no other answer than this.
                    answer(
                        DeviceAnswer(
                            202, ["operationId": .string(operation.id), "status": "assigning"], retryAfter: Self.patience,
                            operation: operation.id))
                }
            }
        } catch {
            answer(DeviceAnswer(error))
        }
    }

    /// How an operation goes.
    func poll(_ caller: DeviceCaller, _ certificates: ClientCertificates, operation id: String) -> DeviceAnswer {
        do throws(EnrollmentError) {
            _ = try authenticate(caller, certificates)
            guard let operation = try enrollments.operation(id, of: caller.registrationID) else {
                throw .refused(code: 404202, "no such operation")
            }
            if operation.hasEnded { return DeviceAnswer(200, operation.json()) }
            return DeviceAnswer(202, operation.json(), retryAfter: Self.patience, operation: id)
        } catch {
            return DeviceAnswer(error)
        }
    }

    /// Where a device was assigned.
    func lookUp(_ caller: DeviceCaller, _ certificates: ClientCertificates, body: [UInt8]) -> DeviceAnswer {
        do throws(EnrollmentError) {
            guard try DeviceRegistration(body, of: caller).csr == nil else { throw .invalid("a look-up takes no csr") }
            _ = try authenticate(caller, certificates)
            guard let record = try enrollments.record(caller.registrationID) else {
                throw .refused(code: 404201, "this device has never registered")
            }
            return DeviceAnswer(200, record.told(at: try enrollments.hub(record.hub)))
        } catch {
            return DeviceAnswer(error)
        }
    }
}

/// The body of a registration (dps 2.4, 3): empty, or an object.
struct DeviceRegistration {
    /// For the webhook.
    var payload, csr: JSONValue?

    init(_ body: [UInt8], of caller: DeviceCaller) throws(EnrollmentError) {
        guard !body.allSatisfy({ [0x20, 0x09, 0x0A, 0x0D].contains($0) }) else { return }
        let json: JSONValue
        do throws(JSONError) { json = try JSONValue.parse(body, depth: 40) } catch { throw .invalid("the body is not JSON: \(error)") }
        guard json.object != nil else { throw .invalid("the body is not an object") }
        if let id = json["registrationId"], !id.isNull {
            guard let text = id.string, ASCII.equalIgnoringCase(text, caller.registrationID) else {
                throw .invalid("registrationId of the body is not the one of the connection")
            }
        }
        payload = json["payload"].flatMap { $0.isNull ? nil : $0 }
        csr = json["csr"].flatMap { $0.isNull ? nil : $0 }
    }
}
