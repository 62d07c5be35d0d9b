// SPDX-License-Identifier: Apache-2.0
// A product in C# (.NET 6 or newer, or Mono 6) asks the local API of the licensing service.
//   Check SOCKET PRODUCT ROOT      exit code: 0 licensed, 1 not, 2 could not ask
using System;
using System.IO;
using System.Net.Sockets;
using System.Text;
using System.Text.RegularExpressions;

static class Check
{
    static int Main(string[] args)
    {
        if (args.Length != 3)
        {
            Console.Error.WriteLine("usage: Check SOCKET PRODUCT ROOT");
            return 2;
        }
        string path = args[0], product = args[1], root = args[2];
        try
        {
            string answer = Ask(path, $"/v1/products/{product}/check?root={Uri.EscapeDataString(root)}");
            string state = Regex.Match(answer, "\"state\": \"([a-z-]+)\"").Groups[1].Value;
            Console.WriteLine($"{product}: {state}");
            return Regex.IsMatch(answer, "\"licensed\": true") ? 0 : 1;
        }
        catch (Exception exc) when (exc is SocketException || exc is IOException)
        {
            Console.Error.WriteLine(exc.Message); // no service: the product goes on as its own rules say, and shows it
            return 2;
        }
    }

    // HTTP/1.0: the answer ends where the connection does.
    static string Ask(string path, string target)
    {
        using (var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified))
        {
            socket.ReceiveTimeout = socket.SendTimeout = 10000;
            socket.Connect(new UnixDomainSocketEndPoint(path));
            using (var stream = new NetworkStream(socket))
            {
                byte[] question = Encoding.ASCII.GetBytes($"GET {target} HTTP/1.0\r\nHost: volact\r\n\r\n");
                stream.Write(question, 0, question.Length);
                string answer = new StreamReader(stream, Encoding.UTF8).ReadToEnd();
                if (!Regex.IsMatch(answer, "^HTTP/1\\.[01] 200 ")) throw new IOException("the service says no");
                return answer;
            }
        }
    }
}
