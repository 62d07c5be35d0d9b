// SPDX-License-Identifier: Apache-2.0
// A product in C# (.NET 6 or newer) asks the local API of the licensing service.
//   Check SOCKET PRODUCT ROOT      exit code: 0 licensed, 1 not, 2 could not ask
using System.Net.Sockets;
using System.Text.Json;

var (path, product, root) = (args[0], args[1], args[2]);
var handler = new SocketsHttpHandler
{
    ConnectCallback = async (_, cancel) =>
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        await socket.ConnectAsync(new UnixDomainSocketEndPoint(path), cancel);
        return new NetworkStream(socket, ownsSocket: true);
    },
};
using var client = new HttpClient(handler) { Timeout = TimeSpan.FromSeconds(10) };
try
{
    var text = await client.GetStringAsync(
        $"http://volact/v1/products/{product}/check?root={Uri.EscapeDataString(root)}");
    using var check = JsonDocument.Parse(text);
    Console.WriteLine($"{product}: {check.RootElement.GetProperty("state").GetString()}");
    return check.RootElement.GetProperty("licensed").GetBoolean() ? 0 : 1;
}
catch (HttpRequestException exc)
{
    Console.Error.WriteLine(exc.Message); // no service: the product goes on as its own rules say, and shows it
    return 2;
}
