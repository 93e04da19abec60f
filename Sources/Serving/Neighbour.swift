import Connections
import LinuxIO
import Wire

/// A second role behind the listeners of another one: both look at what a client says first.
package protocol Neighbour: HTTPService {
    /// Whether a request is meant for it, and not for the role whose listeners these are.
    func owns(_ head: HTTPRequestHead) -> Bool
    /// The same of a CONNECT.
    func owns(_ connect: MQTTConnect) -> Bool
    /// Whether a WebSocket on this path is one of its devices', although the other role has no such path.
    func takesWebSocket(on path: String) -> Bool
    /// Goes on with a connection whose CONNECT comes again, or lies in `framing`.
    func adopt(_ channel: consuming Channel, _ framing: consuming DeviceFraming) -> Connection
}

/// A role that has joined another one's listeners.
package struct Guest {
    package let role: any ServedRole
    package let neighbour: any Neighbour

    package init(role: any ServedRole, neighbour: any Neighbour) {
        self.role = role
        self.neighbour = neighbour
    }
}
