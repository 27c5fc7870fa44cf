<?php
// What the page knows about the nodes, and the orders that it can give.

/** A node of the demo, seen from a page. */
final class Node
{
    private function __construct(public readonly string $name, private readonly int $port)
    {
    }

    /** @return list<Node> */
    public static function all(): array
    {
        $names = ['web-1', 'web-2', 'session-1', 'session-2'];
        $port = fn ($name) => (int) getenv('DEMO_' . strtoupper(strtr($name, '-', '_')));
        return array_map(fn ($name) => new Node($name, $port($name)), $names);
    }

    /** The node on which this session was read since it was last written. */
    public static function thatRead(string $id): ?Node
    {
        foreach (self::all() as $node) {
            // Unlike `get`, `me` looks at an item without reading it.
            $answer = str_starts_with($node->name, 'session') ? $node->ask("me $id\r\n") : null;
            if (str_contains($answer ?? '', 'fetch=yes')) {
                return $node;
            }
        }
        return null;
    }

    /** up, starting (a session node loads what it lacks before it answers), or killed. */
    public function state(): string
    {
        if (!file_exists(getenv('DEMO_DIR') . "/$this->name.pid")) {
            return 'killed';
        }
        return $this->ask('') === null ? 'starting' : 'up';
    }

    /** The first line of the answer; null when nobody listens there. */
    private function ask(string $question): ?string
    {
        $stream = @stream_socket_client("tcp://127.0.0.1:$this->port", $code, $message, 0.5);
        if (!$stream) {
            return null;
        }
        stream_set_timeout($stream, 0, 500_000);
        return $question !== '' && fwrite($stream, $question) ? (string) fgets($stream) : '';
    }
}

/** Tells demo/run, which owns the nodes, to do something. */
function order(string $verb, string $name): void
{
    file_put_contents(getenv('DEMO_DIR') . '/orders', "$verb $name\n", FILE_APPEND);
}
