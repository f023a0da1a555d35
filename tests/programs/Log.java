import static java.nio.file.StandardOpenOption.CREATE_NEW;
import static java.nio.file.StandardOpenOption.READ;
import static java.nio.file.StandardOpenOption.WRITE;

import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.channels.FileChannel;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;

/** A log in Kafka's manner: appended to through a mapping, served by transferTo. DIRECTORY BYTES CONSUMERS. */
class Log {
    public static void main(String[] words) throws Exception {
        var directory = Path.of(words[0]);
        int bytes = Integer.parseInt(words[1]);
        int consumers = Integer.parseInt(words[2]);
        try (var log = FileChannel.open(directory.resolve("log"), CREATE_NEW, READ, WRITE);
                var server = ServerSocketChannel.open()) {
            var map = log.map(FileChannel.MapMode.READ_WRITE, 0, bytes);
            var message = new byte[1 << 16];
            for (int at = 0; at < bytes; at += message.length) {
                Arrays.fill(message, (byte) (at >> 16));
                map.put(message);
            }
            map.force();
            server.bind(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0));
            var port = ((InetSocketAddress) server.getLocalAddress()).getPort();
            Files.writeString(directory.resolve("port.new"), "" + port);
            Files.move(directory.resolve("port.new"), directory.resolve("port"));
            for (int i = 0; i < consumers; i++) {
                try (SocketChannel consumer = server.accept()) {
                    for (long at = 0; at < bytes; ) {
                        at += log.transferTo(at, bytes - at, consumer);
                    }
                }
            }
        }
    }
}
