// JDBC: see access_clients.sh
import java.io.PrintStream;
import java.sql.*;

public class JdbcClient
{
    public static void main(String[] args) throws Exception
    {
        PrintStream out = new PrintStream(System.out, true, "UTF-8");
        try (Connection c = DriverManager.getConnection(args[0]); Statement s = c.createStatement())
        {
            int n = 0;
            try (ResultSet r = c.getMetaData().getTables(null, "crm", "%", new String[] {"VIEW"}))
            {
                while (r.next())
                    n++;
            }
            out.println("views " + (n >= 30 ? "enough" : "few"));
            for (String person : new String[] {"agent", "rep"})
            {
                s.execute("SET ROLE clients_" + person);
                try (ResultSet r = s.executeQuery("SELECT name, phone, annual_revenue FROM crm.account WHERE code = 'C1'"))
                {
                    r.next();
                    out.println(person + " " + r.getString(1) + " " + r.getString(2) + " " + r.getString(3));
                }
            }
            String seen = "prepared";
            try (PreparedStatement p = c.prepareStatement("SELECT phone FROM crm.account WHERE code = ?"))
            {
                p.unwrap(org.postgresql.PGStatement.class).setPrepareThreshold(1);
                for (String person : new String[] {"agent", "rep", "agent"})
                {
                    s.execute("SET ROLE clients_" + person);
                    p.setString(1, "C1");
                    try (ResultSet r = p.executeQuery())
                    {
                        r.next();
                        seen += " " + r.getString(1);
                    }
                }
            }
            out.println(seen);
            s.execute("SET ROLE clients_rep");
            try (ResultSet r = s.executeQuery("UPDATE crm.account SET phone = '13900139000' WHERE code = 'C1' RETURNING phone"))
            {
                r.next();
                out.println("write " + r.getString(1));
            }
            try
            {
                s.execute("SELECT FROM crm_data.account");
            }
            catch (SQLException e)
            {
                out.println("refused " + e.getSQLState());
            }
        }
    }
}
